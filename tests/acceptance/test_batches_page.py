"""The examples of docs/batches.md, run as a reader would run them, on the demo catalog's real models."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.platform import ROOT, Platform
from tests.acceptance.terminal import Terminal

BLOCK = re.compile(r"```(sh|python) run\n(.*?)```", re.DOTALL)
PAGE = (ROOT / "docs" / "batches.md").read_text()
EXAMPLES = BLOCK.findall(PAGE)
QUESTIONS = ROOT / "docs" / "questions.jsonl"


def _answers_the_questions(said: str) -> bool:
    counts, path, first = said.splitlines()
    is_first = json.loads(first)["custom_id"] == "question-1"
    return "completed, 12 of 12 done" in counts and path == "  output: answers.jsonl" and is_first


def _tells_each_answer(said: str) -> bool:
    status, *answers = said.splitlines()
    return status.startswith("completed ") and [line.split()[0] for line in answers][::11] == [
        "question-1",
        "question-12",
    ]


def _makes_vectors(said: str) -> bool:
    return said == "completed 2 of 2\n"


def _steers_a_batch(said: str) -> bool:
    return all(word in said for word in ("  paused", "  in_progress", "1,200 of 1,200 done", "team=docs", "AGE"))


RIGHT: list[Callable[[str], bool]] = [_answers_the_questions, _tells_each_answer, _makes_vectors, _steers_a_batch]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like the checkout, in which examples may write."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    return tmp_path


def test_the_page_has_its_examples() -> None:
    assert [language for language, _ in EXAMPLES] == ["sh", "python", "python", "sh"]
    [line] = re.findall(r"```json\n(.*)\n```", PAGE)
    example = json.loads(QUESTIONS.read_text().splitlines()[0])
    assert {**json.loads(line), "body": ""} == {**example, "body": ""}
    assert PAGE.count("```") == 2 * len(EXAMPLES) + 2, "an example that is not run is not true for long"


@pytest.mark.parametrize("number", range(len(RIGHT)), ids=["run", "openai", "client", "terminal"])
def test_an_example_runs_as_written(demo: Platform, folder: Path, number: int) -> None:
    language, code = EXAMPLES[number]
    environment = demo.environment | demo.client
    environment |= {"PATH": f"{ROOT / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = ["sh", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert RIGHT[number](done.stdout), done.stdout


def test_whoever_looks_sees_a_bar_the_counts_and_where_the_answers_are(demo: Platform, tmp_path: Path) -> None:
    words = ["batch", "run", str(QUESTIONS), "--wait", "-o", "a.jsonl"]
    with Terminal([str(ROOT / "bin" / "stoker"), *words], tmp_path, demo.environment | demo.client) as screen:
        assert screen.finish() == 0
        for expected in ("█ 100% 12 of 12 done", "completed, 12 of 12 done, in ", "output: a.jsonl"):
            assert expected in screen.shown
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 12
