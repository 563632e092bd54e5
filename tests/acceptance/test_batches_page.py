"""The examples of docs/batches.md and files.md, run as a reader would run them, on the demo's real models."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stoker import Stoker
from tests.acceptance.platform import ROOT, Platform
from tests.acceptance.terminal import Terminal

BLOCK = re.compile(r"```(sh|python) run\n(.*?)```", re.DOTALL)
PAGE = (ROOT / "docs" / "batches.md").read_text()
EXAMPLES = BLOCK.findall(PAGE)
OF_FILES = BLOCK.findall((ROOT / "docs" / "files.md").read_text())
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


def _gives_back_what_it_took(said: str) -> bool:
    first, _, content = said.partition("\n")
    return first.startswith("file_") and content.rstrip() == QUESTIONS.read_text().rstrip()


def _takes_and_lists_a_file(said: str) -> bool:
    made, _ = json.JSONDecoder().raw_decode(said)
    return made["filename"] == QUESTIONS.name and said.count(made["id"]) > 1


RIGHT: list[Callable[[str], bool]] = [
    _answers_the_questions,
    _tells_each_answer,
    _makes_vectors,
    _steers_a_batch,
    _gives_back_what_it_took,
    _takes_and_lists_a_file,
]


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


@pytest.mark.parametrize("number", range(len(RIGHT)), ids=["run", "openai", "client", "terminal", "files", "curl"])
def test_an_example_runs_as_written(demo: Platform, folder: Path, number: int) -> None:
    language, code = [*EXAMPLES, *OF_FILES][number]
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


SAID = {"messages": [{"role": "user", "content": "word " * 30}]}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nothing"}}}
BAD: list[dict[str, object]] = [
    {"model": "nobody", **SAID},
    {"model": "chat:nobody", **SAID},
    {"model": "minilm", **SAID},
    {"model": "chat"},
    {"model": "chat", **SAID, "temperature": 9},
    {"model": "chat", **SAID, "max_tokens": 1020},
    {"model": "chat", "messages": [{"role": "user", "content": "word " * 1100}]},
    {"model": "chat", **SAID, "response_format": SCHEMA},
]


def test_lines_are_refused_in_the_words_of_their_endpoint(demo: Platform, tmp_path: Path) -> None:
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
        for number, body in enumerate(BAD)
    ]
    file = tmp_path / "bad.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with demo.http() as http, Stoker(demo.client["STOKER_URL"], demo.client["STOKER_API_KEY"]) as stoker:
        alone = [http.post("/v1/chat/completions", json=body) for body in BAD]
        ended = stoker.batches.wait(stoker.batches.submit(file), 60)
        stoker.batches.save(ended, file, errors=True)
    failed = [json.loads(line) for line in file.read_text().splitlines()]
    assert (ended.status, ended.failed) == ("completed", len(BAD))
    assert [line["custom_id"] for line in failed] == [line["custom_id"] for line in lines]
    together = [(line["response"]["status_code"], line["response"]["body"]["error"]) for line in failed]
    expected = [(answer.status_code, answer.json()["error"]) for answer in alone]
    for _, error in (*together, *expected):
        assert error.pop("request_id")
    assert together == expected
    assert {status for status, _ in expected} == {400, 404}
