"""The table of parts as the supervisor reads it, and what it refuses."""

import json
import sys
from typing import Any

import pytest

from stoker.errors import StartError
from stoker.parts import Part, Ready, check_needs, read_parts
from tests.refusals import refusal

TABLE = {
    "parts": [
        {
            "name": "api",
            "command": ["python", "-m", "producer_api"],
            "own": True,
            "needs": ["redis"],
            "ready": {"kind": "http", "path": "/health/ready"},
            "stop_seconds": 35,
        },
        {"name": "beat", "command": ["celery", "beat"], "own": False, "ready": {"kind": "file"}, "start_seconds": 9},
    ]
}


def parts(**needs: list[str]) -> list[Part]:
    return [Part(name, ["true"], Ready("file"), needs=tuple(of)) for name, of in needs.items()]


def test_the_table_is_read() -> None:
    api, beat = read_parts(json.dumps(TABLE))
    assert (api.own, api.needs, api.stop_seconds) == (True, ("redis",), 35)
    assert api.ready == Ready("http", "/health/ready", "api")
    assert (beat.own, beat.needs, beat.start_seconds) == (False, ("redis", "s3"), 9)


@pytest.mark.parametrize(
    "table",
    [
        "not json",
        "[]",
        '{"parts": [{"name": "api"}]}',
        '{"parts": [{"name": "api", "command": ["true"], "ready": {"kind": "telepathy"}}]}',
        '{"parts": [{"name": "api", "command": ["true"], "ready": {"kind": "file", "colour": "red"}}]}',
    ],
)
def test_a_table_that_cannot_be_read_is_refused(table: str) -> None:
    with pytest.raises(StartError, match="a table of parts that cannot be read"):
        read_parts(table)


def test_commands_are_filled_in_and_run_with_this_python() -> None:
    values = {"api_port": "8000", "ready_file": "/tmp/{ready}"}  # noqa: S108 - a name, no file
    part = Part("api", ["python", "-m", "x", "--port={api_port}", '{"a": 1}', "{ready_file}"], Ready("file"))
    assert part.command_line(values) == [sys.executable, "-m", "x", "--port=8000", '{"a": 1}', "/tmp/{ready}"]  # noqa: S108 - the same
    assert Part("other", ["pythonic"], Ready("file")).command_line({}) == ["pythonic"]


def test_needs_that_can_be_met_are_accepted() -> None:
    assert refusal(check_needs, parts(worker=["api", "s3"], api=["redis"], beat=[])) is None


@pytest.mark.parametrize(
    ("needs", "sentence"),
    [
        ({"api": ["database"]}, "api needs database"),
        ({"a": ["b"], "b": ["a"], "c": []}, "a needs b, b needs a"),
        ({"redis": []}, "the same name"),
    ],
)
def test_needs_that_would_wait_for_ever_are_refused(needs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StartError, match=sentence):
        check_needs(parts(**needs))


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(StartError, match="the same name"):
        check_needs([*parts(api=[]), *parts(api=[])])
