"""The rows behind the answers: what runs now, what was lost, whether all is in order at the end."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from schemas.jobs import Status
from tests.chaos.waiting import until

OPEN = "status IN ('queued', 'running')"
DISORDER = {
    "jobs that run without an owner": "status = 'running' AND owner IS NULL",
    "jobs that run for a worker that is gone": "status = 'running' AND owner NOT IN (SELECT id FROM workers)",
    "jobs that wait with an owner or an end": "status = 'queued' AND (owner IS NOT NULL OR finished_at IS NOT NULL)",
    "ended jobs without the time of their end": f"NOT {OPEN} AND finished_at IS NULL",
    "ended jobs without the end of their retention": f"NOT {OPEN} AND retained_until IS NULL",
    "successes without artifacts, or failures without an error": (
        "(status = 'succeeded' AND artifacts IS NULL) OR (status = 'failed' AND error IS NULL)"
    ),
    "jobs with an unknown status": f"status NOT IN ({', '.join(repr(status.value) for status in Status)})",
    "jobs without an input": "id NOT IN (SELECT job_id FROM job_inputs)",
}


class Rows:
    """Reads the database beside the platform, never through it, and holds its locks when asked to."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_sqlite = url.startswith("sqlite")
        self._reader = self._connect()

    def close(self) -> None:
        """Hang up."""
        self._reader.close()

    def read(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return list(self._reader.execute(query))

    def count(self, condition: str) -> int:
        """Count jobs."""
        return int(self.read(f"SELECT count(*) FROM jobs WHERE {condition}")[0][0])  # noqa: S608 - our own conditions

    def running(self, queues: list[str] | None = None) -> dict[str, int]:
        """Return the attempt of each running job, of these queues when some are named."""
        which = "" if queues is None else f" AND queue IN ({', '.join(map(repr, queues))})"
        return dict(self.read(f"SELECT id, attempt FROM jobs WHERE status = 'running'{which}"))  # noqa: S608 - ours

    def still_held(self, were_running: dict[str, int]) -> int:
        """Count the jobs that neither ended nor moved since they were seen running at that attempt."""
        now = self.running()
        return sum(now.get(job_id) == attempt for job_id, attempt in were_running.items())

    def have_ended(self, jobs: Iterable[str]) -> bool:
        """Say whether all of these have ended."""
        return not self.count(f"id IN ({', '.join(map(repr, jobs)) or 'NULL'}) AND {OPEN}")

    def total_lost(self) -> int:
        """Return how often a job's worker was counted as lost."""
        return int(self.read("SELECT coalesce(sum(lost), 0) FROM jobs")[0][0])

    def job_ids(self) -> set[str]:
        """Return every job there is."""
        return {row[0] for row in self.read("SELECT id FROM jobs")}

    def admitted(self, idempotency_keys: list[str]) -> int:
        """Count the keys behind which there is a job."""
        keys = ", ".join(map(repr, idempotency_keys)) or "NULL"
        return int(self.read(f"SELECT count(*) FROM idempotency_keys WHERE key IN ({keys})")[0][0])  # noqa: S608 - ours

    async def suspects_are_done(self, seconds: float) -> bool:
        """Wait until every job that was ever lost has ended: then it cannot be lost once more."""
        return await until(lambda: self.count(f"lost > 0 AND {OPEN}") == 0, seconds)

    def disorder(self) -> list[str]:
        """Return a sentence for each thing that must never be in the database of a platform at rest."""
        counted = {what: self.count(condition) for what, condition in DISORDER.items()}
        return [f"{number} {what}" for what, number in counted.items() if number]

    async def hold_locked(self, seconds: float) -> None:
        """Let nobody else write (SQLite), or touch jobs at all (Postgres), for a while."""
        with contextlib.closing(self._connect(may_write=True)) as connection:
            lock = "BEGIN IMMEDIATE" if self._is_sqlite else "BEGIN; LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"
            await asyncio.to_thread(connection.execute, lock)
            try:
                await asyncio.sleep(seconds)
            finally:
                connection.execute("ROLLBACK")

    def note_ended_lines(self) -> None:
        """Have the database note how many attempts each line of a batch took, and how many were lost, at its end."""
        with contextlib.closing(self._connect(may_write=True)) as connection:
            connection.execute("CREATE TABLE chaos_attempts (attempt INTEGER, lost INTEGER)")
            note = "INSERT INTO chaos_attempts VALUES (OLD.attempt, OLD.lost);"
            trigger = "CREATE TRIGGER chaos_note AFTER DELETE ON batch_lines FOR EACH ROW"
            if self._is_sqlite:
                connection.execute(f"{trigger} BEGIN {note} END")
            else:
                function = "CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql"
                connection.execute(f"{function} AS $$ BEGIN {note} RETURN NULL; END $$")
                connection.execute(f"{trigger} EXECUTE FUNCTION chaos_note()")

    def close_window(self, batch_id: str) -> None:
        """Let the completion window of a batch be over."""
        with contextlib.closing(self._connect(may_write=True)) as connection:
            connection.execute(f"UPDATE batches SET expires_at = created_at WHERE id = '{batch_id}'")  # noqa: S608 - ours

    def take_attempts(self) -> list[tuple[int, int]]:
        """Return what was noted since the last time: of each line its attempts, and how many of them were lost."""
        with contextlib.closing(self._connect(may_write=True)) as connection:
            noted = list(connection.execute("SELECT attempt, lost FROM chaos_attempts"))
            connection.execute("DELETE FROM chaos_attempts")
        return noted

    def is_locked(self) -> bool:
        """Say whether somebody is inside a write to SQLite, which keeps all others out."""
        if not self._is_sqlite:
            return False
        with contextlib.closing(self._connect(may_write=True)) as connection:
            try:
                connection.execute("PRAGMA busy_timeout = 100")
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            connection.execute("ROLLBACK")
            return False

    def _connect(self, *, may_write: bool = False) -> Any:
        if not self._is_sqlite:
            return psycopg.connect(self._url.replace("+psycopg", ""), autocommit=True)
        mode = "rw" if may_write else "ro"
        path = self._url.removeprefix("sqlite+pysqlite:///")
        return sqlite3.connect(
            f"file:{path}?mode={mode}", uri=True, isolation_level=None, timeout=10, check_same_thread=False
        )


@contextmanager
def open_rows(url: str) -> Iterator[Rows]:
    """Open a reader for a while."""
    rows = Rows(url)
    try:
        yield rows
    finally:
        rows.close()
