"""What a submit, a claim and a finish cost in SQL: CPU-milliseconds and operations a second, by database and threads.

Run it as `python -m bench.storage`; the server's CPU is counted for Postgres, and SQLite runs inside our own process.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from bench.processes import cpu_seconds
from schemas.ids import new_id
from schemas.jobs import Status
from storage import claims, jobs, queues, versions
from storage.claims import Claim, Ending
from storage.database import Database
from storage.jobs import NewJob, Submission
from storage.queues import QueueRow
from storage.rows import ClaimedJob
from tests.services import run_postgres

QUEUE = "text.echo.cpu0"
INPUT = '{"prompt":"' + "x" * 960 + '","max_tokens":128}'
OUTPUT = '{"text":"' + "y" * 200 + '"}'
USAGE, METRICS = '{"prompt_tokens":100,"completion_tokens":50}', '{"queue_ms":3,"run_ms":900}'
THREADS = (1, 16)
OPERATIONS = 1600
ROUNDS = 3


class Load:
    """One database under one kind of operation after the other."""

    def __init__(self, database: Database, server: int | None) -> None:
        self._database = database
        self._server = server
        self._claimed: list[ClaimedJob] = []

    def submit(self) -> None:
        """Submit one job with a kilobyte of input."""
        now = time.time()
        job = NewJob(
            new_id("job"), "caller", "text", "echo", "main", QUEUE, now, "normal", 3, None, now + 3600, 60, 3600, now,
            '{"user":"u-123"}', None, "req_1",
        )  # fmt: skip
        self._database.write(jobs.submit, Submission(job, INPUT))

    def claim(self) -> None:
        """Claim one job."""
        self._claimed += self._database.write(claims.claim, Claim(QUEUE, "worker")).jobs

    def finish(self) -> None:
        """Finish one of the claimed jobs."""
        job = self._claimed.pop()
        ending = Ending(job.id, job.attempt, Status.SUCCEEDED, OUTPUT, None, None, USAGE, METRICS)
        assert self._database.write(claims.finish, ending)  # noqa: S101 - a bench that measures failures lies

    def measure(self, operation: Callable[[], None], threads: int) -> tuple[float, float, float]:
        """Run an operation many times; our CPU-ms and the server's for each, and how many a second."""
        share = OPERATIONS // threads // (8 if threads == 1 else 1)

        def work() -> None:
            for _ in range(share):
                operation()

        running = [threading.Thread(target=work) for _ in range(threads)]
        cpu, server_cpu, begun = time.process_time(), self._server_seconds(), time.perf_counter()
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        seconds, done = time.perf_counter() - begun, share * threads
        ours, theirs = time.process_time() - cpu, self._server_seconds() - server_cpu
        return ours / done * 1000, theirs / done * 1000, done / seconds

    def _server_seconds(self) -> float:
        return 0.0 if self._server is None else cpu_seconds(self._server)


def databases(folder: Path) -> Iterator[tuple[str, Database, int | None]]:
    """Open one database after the other, migrated and with a queue."""
    yield "sqlite", Database(f"sqlite:///{folder / 'stoker.db'}"), None
    with run_postgres(folder / "postgres") as server:
        shim = None if server.server is None else server.server._process.pid  # noqa: SLF001 - no door but this one says which process it is
        yield "postgres", Database(server.url), shim


def declare_queue(connection: sa.Connection) -> None:
    """Make the row that a claim looks at."""
    queues.declare(connection, [QueueRow(QUEUE, "text", "echo", "cpu0", paused=0)])


def main() -> None:
    """Print the table."""
    print(f"{'database':9} {'operation':9} {'threads':>7} {'our CPU-ms':>10} {'server CPU-ms':>13} {'per second':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for name, database, server in databases(Path(folder)):
            versions.migrate(database)
            database.transact(declare_queue)
            load = Load(database, server)
            results: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
            for _ in range(ROUNDS):
                for threads in THREADS:
                    for operation in (load.submit, load.claim, load.finish):
                        results.setdefault((operation.__name__, threads), []).append(load.measure(operation, threads))
            for (operation_name, threads), measured in sorted(results.items(), key=lambda item: item[0][1]):
                ours, theirs, rate = sorted(measured)[ROUNDS // 2]
                print(f"{name:9} {operation_name:9} {threads:7} {ours:10.3f} {theirs:13.3f} {rate:10.0f}")
            database.close()


if __name__ == "__main__":
    main()
