"""Logs never get in the way of what they are about."""

import asyncio
import io
import os
import subprocess
import sys

import pytest

from producer_api.access import log_request

ORPHAN = """
import os, signal, sys, time
from tasks.logs import configure_logs
from tasks.parent import watch_parent
configure_logs("api")
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
watch_parent(int(sys.argv[1]), signal.SIGTERM, grace_seconds=20)
print("ready", flush=True)
time.sleep(20)
"""


class Broken(io.StringIO):
    """A standard error that nobody reads any more."""

    def write(self, _text: str, /) -> int:
        raise BrokenPipeError


def test_a_part_ends_with_its_supervisor_though_nobody_reads_its_last_words() -> None:
    ours, theirs = os.pipe()
    read_log, write_log = os.pipe()
    part = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(ours)], pass_fds=[ours], stdout=subprocess.PIPE, stderr=write_log
    )
    assert part.stdout is not None
    assert part.stdout.readline() == b"ready\n"
    os.close(read_log)  # as a killed supervisor does: its end of the log goes first
    os.close(write_log)
    os.close(theirs)
    assert part.wait(60) == 7
    part.stdout.close()
    os.close(ours)


async def test_requests_go_on_where_their_lines_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", Broken())
        log_request({"path": "/lost"})
        await asyncio.sleep(0)
    heard = io.StringIO()
    monkeypatch.setattr(sys, "stderr", heard)
    log_request({"path": "/heard"})
    await asyncio.sleep(0)
    assert [line for line in heard.getvalue().splitlines() if "/lost" in line] == []
    assert "/heard" in heard.getvalue()
