"""The repository stands alone: nothing in it points at one person's machine or outside its own root."""

import re
from pathlib import Path

from tests.architecture.source import ROOT, tracked_files

MACHINE_PATH = re.compile(r"(?<![\w.~*}$-])/(?:work|root|opt|Users)/[\w.-]+")
UPWARDS = re.compile(r"(?<![\w./])(?:\.\./)+[\w./-]*")
OUTSIDE = re.compile(r"\.\./shared")


def test_no_path_of_one_machine() -> None:
    found = {name: hits for name, text in tracked_files() if (hits := MACHINE_PATH.findall(text))}
    assert found == {}


def test_no_mention_of_a_neighbouring_folder() -> None:
    assert [name for name, text in tracked_files() if OUTSIDE.search(text)] == []


def test_links_upwards_end_inside_the_repository() -> None:
    strays = {
        f"{name}: {link}"
        for name, text in tracked_files("*.md", "*.yml", "*.yaml", "*.toml", "Makefile", "Procfile")
        for link in UPWARDS.findall(text)
        if not _inside(ROOT / name, link)
    }
    assert strays == set()


def test_links_between_pages_lead_somewhere() -> None:
    link = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")
    broken = {
        f"{name}: {target}"
        for name, text in tracked_files("*.md")
        for target in link.findall(text)
        if not ((ROOT / name).parent / target).exists()
    }
    assert broken == set()


def _inside(page: Path, link: str) -> bool:
    return (page.parent / link).resolve().is_relative_to(ROOT)
