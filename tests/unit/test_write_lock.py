"""How SQLite's writers take turns: nobody is overtaken for long, and nobody waits for one that froze in the line."""

import fcntl
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import sqlalchemy as sa

from schemas.errors import DatabaseFaultError
from storage import dialects

PATIENCE_SECONDS = 60.0
Lock = Callable[[], AbstractContextManager[object]]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "stoker.db"


@pytest.fixture
def lock(database: Path) -> Iterator[Lock]:
    """The lock of a database that nobody opened."""
    engine = sa.create_engine(f"sqlite:///{database}")
    yield dialects.write_lock(engine)
    engine.dispose()


def test_a_busy_writer_lets_others_have_their_turn(lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialects, "POLL_SECONDS", 0.05)  # so rarely does who waits find the lock free by chance
    rounds, is_busy, is_over = [0], threading.Event(), threading.Event()

    def be_busy() -> None:
        while not is_over.is_set():
            with lock():
                rounds[0] += 1
                is_busy.set()
                time.sleep(0.02)
                is_busy.clear()

    def count_overtaking() -> int:
        assert is_busy.wait(PATIENCE_SECONDS)
        before = rounds[0]
        with lock():
            return rounds[0] - before

    busy = threading.Thread(target=be_busy)
    busy.start()
    try:
        overtaken = [count_overtaking() for _ in range(9)]
    finally:
        is_over.set()
        busy.join()
    assert statistics.median(overtaken) <= 1


def test_who_froze_while_it_had_the_next_turn_is_passed_by(
    lock: Lock, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialects, "TURN_SECONDS", 0.05)
    with Path(f"{database}.lock.turn").open("wb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with lock(), Path(f"{database}.lock").open("wb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_who_holds_the_lock_for_too_long_is_a_fault(lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialects, "LOCK_SECONDS", 0.05)
    with lock(), pytest.raises(DatabaseFaultError, match="locked by another process"), lock():
        pass
    with lock():
        pass
