"""The examples of docs/images.md, run as a reader would run them, on the demo catalog's real model."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.platform import ROOT, Platform

BLOCK = re.compile(r"```(sh|python) run\n(.*?)```", re.DOTALL)
PAGE = (ROOT / "docs" / "images.md").read_text()
EXAMPLES = BLOCK.findall(PAGE)
SHEET_BYTES = 300_000


def _saves_and_draws(said: str) -> bool:
    return '"blocked": 0' in said and len(re.findall(r"\"?image-0.png", said)) >= 2


def _links_and_a_picture(said: str) -> bool:
    return said.count("http") == 2 and "b'\\x89PNG'" in said


def _progress_previews_and_a_picture(said: str) -> bool:
    return "preview of" in said and "100%" in said and "image-0.png: image/png" in said


def _a_jpeg_and_a_result(said: str) -> bool:
    return '"image-0.jpg"' in said and '"result":"http' in said and '"latency_ms"' in said


def _a_refused_prompt_and_a_blocked_picture(said: str) -> bool:
    return "content_policy_violation" in said and "62% of it have the hue of skin" in said and ".png" not in said


RIGHT: list[Callable[[str], bool]] = [
    _saves_and_draws,
    _links_and_a_picture,
    _progress_previews_and_a_picture,
    _a_jpeg_and_a_result,
    _a_refused_prompt_and_a_blocked_picture,
]


def test_the_page_has_its_examples_and_its_picture() -> None:
    assert [language for language, _ in EXAMPLES] == ["sh", "python", "python", "sh", "sh"]
    sheet = (ROOT / "docs" / "images.png").read_bytes()
    assert sheet.startswith(b"\x89PNG")
    assert len(sheet) < SHEET_BYTES


@pytest.mark.parametrize("number", range(len(RIGHT)), ids=["terminal", "openai", "events", "curl", "safety"])
def test_an_example_runs_as_written(demo: Platform, tmp_path: Path, number: int) -> None:
    language, code = EXAMPLES[number]
    code = code.replace("bin/stoker", str(ROOT / "bin" / "stoker"))
    command = ["sh", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
    environment = demo.environment | demo.client | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert RIGHT[number](done.stdout), done.stdout
    if number == 0:
        assert len(list((tmp_path / "pictures").iterdir())) == 4


def test_the_demo_leaves_a_sheet(demo: Platform, tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "bin" / "stoker", "demo"],
        cwd=tmp_path,
        env=demo.environment | demo.client,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Look at them side by side: stoker-demo/sheet.png" in done.stderr
    assert len(list((tmp_path / "stoker-demo").glob("*.png"))) == 4 * 5 + 1
