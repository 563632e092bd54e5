"""The state folder: locks that die with their holder, private files, secrets made once."""

import errno
import json
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.state import PARTS_LOCK, SUPERVISOR_LOCK, Run, StateFolder

RUN = Run(pid=os.getpid(), started_at=1.5, url="http://127.0.0.1:1", ports={"api": 1}, parts={"api": "ready"})


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    return folder


def test_a_lock_has_one_holder(state: StateFolder) -> None:
    assert not state.is_locked(PARTS_LOCK)
    held = state.lock(PARTS_LOCK)
    assert held is not None
    assert state.lock(PARTS_LOCK) is None
    assert state.is_locked(PARTS_LOCK)
    os.close(held)
    assert not state.is_locked(PARTS_LOCK)


def test_what_a_dead_supervisor_wrote_is_not_believed(state: StateFolder) -> None:
    state.write_run(RUN)
    assert state.read_run() is None
    held = state.lock("lock")
    assert held is not None
    assert state.read_run() == RUN
    state.write_run(replace(RUN, pid=1))
    assert state.read_run() == replace(RUN, pid=1)
    state.write_run(None)
    assert state.read_run() is None
    os.close(held)


def test_a_full_disk_leaves_what_was_said_before(state: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    held = state.lock(SUPERVISOR_LOCK)
    assert held is not None
    state.write_run(RUN)
    monkeypatch.setattr("stoker.state.write_private", refuse)
    state.write_run(replace(RUN, pid=1))
    assert state.read_run() == RUN
    os.close(held)


def test_secrets_are_made_once_and_private(state: StateFolder) -> None:
    first = state.secrets()
    assert first == state.secrets()
    assert len({first.s3_access_key, first.s3_secret_key, first.flower_password, first.redis_password}) == 4
    assert stat.S_IMODE((state.path / "secrets").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700


def test_a_folder_of_an_older_version_gets_the_secrets_that_it_lacks(state: StateFolder) -> None:
    (state.path / "secrets").write_text('{"s3_access_key": "a", "s3_secret_key": "b", "flower_password": "c"}')
    first = state.secrets()
    assert (first.s3_access_key, first.s3_secret_key, first.flower_password) == ("a", "b", "c")
    assert first.redis_password
    assert first == state.secrets()


def test_the_secrets_of_a_newer_version_are_left_alone_so_that_the_database_can_refuse(state: StateFolder) -> None:
    first = state.secrets()
    file = state.path / "secrets"
    newer = json.dumps({**json.loads(file.read_text()), "of_tomorrow": "d"})
    file.write_text(newer)
    assert state.secrets() == first
    assert file.read_text() == newer


def test_secrets_are_not_shown(state: StateFolder) -> None:
    made = state.secrets()
    assert made.redis_password not in f"{made} {made!r}"


def test_the_client_file_is_private_whatever_was_there(state: StateFolder) -> None:
    file = state.path / "client.env"
    file.write_text("STOKER_URL=old\n")
    file.chmod(0o644)
    state.write_client({"STOKER_URL": "http://127.0.0.1:8000", "STOKER_API_KEY": "sk-a=b"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert state.read_client() == {"STOKER_URL": "http://127.0.0.1:8000", "STOKER_API_KEY": "sk-a=b"}


def test_what_a_shell_starts_has_the_variables_of_the_client_file(state: StateFolder) -> None:
    state.write_client({"STOKER_URL": "http://127.0.0.1:8000", "STOKER_API_KEY": "sk-a=b"})
    command = f". {state.path}/client.env && env"
    seen = subprocess.run(["/bin/sh", "-c", command], env={}, capture_output=True, text=True, check=True).stdout
    assert {"STOKER_URL=http://127.0.0.1:8000", "STOKER_API_KEY=sk-a=b"} <= set(seen.splitlines())


def test_without_a_client_file_nothing_is_known(state: StateFolder) -> None:
    assert state.read_client() == {}


def test_the_folder_is_shown_as_one_would_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert StateFolder(tmp_path / ".stoker").shown == Path(".stoker")
    assert StateFolder(Path("/elsewhere")).shown == Path("/elsewhere")
