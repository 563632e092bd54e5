"""The examples of docs/text.md, run as a reader would run them, on the demo catalog's real model."""

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.acceptance.platform import ROOT, Platform

BLOCK = re.compile(r"```(sh|python) run\n(.*?)```", re.DOTALL)
PAGE = (ROOT / "docs" / "text.md").read_text()
EXAMPLES = BLOCK.findall(PAGE)


def _tells_usage(said: str) -> bool:
    return said.count("completion_tokens=") == 2 and said.count("\n") > 3


def _is_a_person(said: str) -> bool:
    return bool(re.fullmatch(r"name='.*' age=-?\d+ mood='(glad|sad)'\n", said))


def _calls_the_tool(said: str) -> bool:
    return said.splitlines()[-1].startswith("get_weather ")


def _tells_a_job_a_haiku_a_stream_and_a_model(said: str) -> bool:
    return all(word in said for word in ('"status":"succeeded"', "latency_ms", "data: [DONE]", '"id":"chat:pirate"'))


RIGHT: list[Callable[[str], bool]] = [
    _tells_usage,
    _is_a_person,
    _calls_the_tool,
    _tells_a_job_a_haiku_a_stream_and_a_model,
]


def test_the_page_has_its_examples() -> None:
    assert [language for language, _ in EXAMPLES] == ["python", "python", "python", "sh"]
    assert PAGE.count("```") == 2 * len(EXAMPLES), "an example that is not run is not true for long"


@pytest.mark.parametrize("number", range(len(RIGHT)), ids=["chat", "json", "tools", "curl"])
def test_an_example_runs_as_written(demo: Platform, number: int) -> None:
    language, code = EXAMPLES[number]
    command = ["sh", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=demo.environment | demo.client, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert RIGHT[number](done.stdout), done.stdout
