"""What people and build servers are told to run can be run."""

import re

import pytest

from tests.architecture.source import ROOT, project, tracked_files

TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
# A command begins a line, a quotation or a shell expression, perhaps after a prompt.
MAKE = re.compile(r"(?:^|[`;&|(]|exec|entry:)[ \t$]*make((?: +(?:[A-Z]+=[^\s`]+|[a-z][a-z-]*))+)", re.MULTILINE)


def commanded_targets(text: str) -> set[str]:
    """Return what each make command in this text makes; NAME=value is no target."""
    return {word for words in MAKE.findall(text) for word in words.split() if "=" not in word}


def test_the_reader_of_commands_sees_them() -> None:
    assert commanded_targets("`make up DETACH=1`, then\n$ make down\n    make test") == {"up", "down", "test"}
    assert commanded_targets("we make sure that it holds") == set()


@pytest.mark.parametrize("name", [".ci/run", ".pre-commit-config.yaml"])
def test_machines_run_targets_that_exist(name: str) -> None:
    called = commanded_targets((ROOT / name).read_text())
    assert called
    assert called <= TARGETS


def test_texts_name_only_targets_that_exist() -> None:
    unknown = {
        name: missing
        for name, text in tracked_files("*.md", "*.py", "*.toml")
        if (missing := commanded_targets("\n".join(CODE.findall(text))) - TARGETS)
    }
    assert unknown == {}


def test_make_help_shows_what_the_contributing_page_promises() -> None:
    documented = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert commanded_targets((ROOT / "CONTRIBUTING.md").read_text()) <= documented


def test_every_exception_to_the_lints_has_its_reason() -> None:
    bare = re.compile(r"# (?:noqa(?:: [A-Z0-9, ]+)?|type: ignore(?:\[[\w, -]+\])?) *$", re.MULTILINE)
    silent = [name for name, text in tracked_files("*.py") if bare.search(text)]
    assert silent == []


def test_every_rule_that_is_off_has_its_reason() -> None:
    rules = project()["tool"]["ruff"]["lint"]
    off = [*rules["ignore"], *(code for codes in rules["per-file-ignores"].values() for code in codes)]
    reasons = re.findall(r'^ +"[A-Z]+\d+",  # \S', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert len(reasons) == len(off)
