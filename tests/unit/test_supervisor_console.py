"""What the supervisor shows and what it keeps."""

import errno
import io
import json
from pathlib import Path
from typing import Any

import pytest

from stoker import console
from stoker.console import Console, readable


class GoneReader(io.StringIO):
    """A terminal whose reader has left."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError


class FullDisk(io.BytesIO):
    """A file that has no room."""

    def write(self, content: Any, /) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.LogFile, "_fresh", lambda _: FullDisk())
    shown = io.StringIO()
    with Console(tmp_path, shown) as voice:
        voice.say("redis is ready")
        voice.relay("redis", b"Short write")
    assert [line.partition("| ")[2] for line in shown.getvalue().splitlines()] == ["redis is ready", "Short write"]


def test_structured_lines_become_readable() -> None:
    line = json.dumps(
        {"event": "job done", "level": "info", "timestamp": "2026-11-21T09:00:01.5Z", "part": "w", "job": 7}
    )
    assert readable(line) == "09:00:01 info    job done job=7"


@pytest.mark.parametrize("line", ["plain text", "{not json", "[1, 2]", '{"other": 1}', '"text"', "null", ""])
def test_other_lines_stay_as_they_are(line: str) -> None:
    assert readable(line) == line


def test_the_terminal_shows_names_and_the_log_does_not(tmp_path: Path) -> None:
    terminal = io.StringIO()
    with Console(tmp_path, terminal) as both:
        both.say("starting")
        both.relay("api", b"hello\xff")
        both.announce("copy me")
    assert terminal.getvalue() == "stoker | starting\napi    | hello�\ncopy me\n"
    assert (tmp_path / "api.log").read_bytes() == b"hello\xff\n"


def test_colour_is_only_for_names() -> None:
    terminal = io.StringIO()
    Console(Path(), terminal, colour=True).announce("plain")
    assert terminal.getvalue() == "plain\n"


def test_detached_only_its_own_words_are_shown(tmp_path: Path) -> None:
    terminal = io.StringIO()
    with Console(tmp_path, terminal, echo_parts=False) as quiet:
        quiet.relay("api", b"hello")
        quiet.say("api is ready")
        quiet.leave_terminal()
        quiet.say("later")
    assert terminal.getvalue() == "api is ready\n"
    assert (tmp_path / "stoker.log").read_text().endswith("later\n")


def test_detached_the_last_words_of_a_part_can_be_repeated(tmp_path: Path) -> None:
    terminal = io.StringIO()
    with Console(tmp_path, terminal, echo_parts=False) as console:
        console.relay("worker", b"first")
        console.relay("worker", b"The model's folder ./nowhere does not exist.")
        console.repeat("worker")
    assert terminal.getvalue() == "  The model's folder ./nowhere does not exist.\n"


def test_what_an_earlier_run_said_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_text("The worker has stopped.\n")
    terminal = io.StringIO()
    with Console(tmp_path, terminal, echo_parts=False) as console:
        console.repeat("worker")
        assert console.tail("worker", 5) == ""
    assert terminal.getvalue() == ""


def test_nobody_listening_is_no_error(tmp_path: Path) -> None:
    with Console(tmp_path, GoneReader()) as alone:
        alone.say("first")
        alone.relay("api", b"second")
    assert (tmp_path / "api.log").read_text() == "second\n"


def test_a_log_is_kept_once_and_never_grows_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOG_BYTES", 10)
    (tmp_path / "api.log").write_text("of the run before\n")
    with Console(tmp_path, None) as writer:
        writer.relay("api", b"0123456789")
        assert (tmp_path / "api.log.1").read_text() == "of the run before\n"
        writer.relay("api", b"next")
    assert (tmp_path / "api.log.1").read_text() == "0123456789\n"
    assert (tmp_path / "api.log").read_text() == "next\n"


def test_the_tail_is_the_last_lines(tmp_path: Path) -> None:
    with Console(tmp_path, None) as writer:
        for number in range(5000):
            writer.relay("api", str(number).encode())
    assert writer.tail("api", 2) == "4998\n4999"
    assert writer.tail("silent", 2) == ""
