"""`python -m bench.webhooks`: many deliveries to many receivers, with and without bad ones among them.

The receivers live in a process of their own; the jobs are written straight into SQL as workers would end them, as fast
as the database takes them. Delay counts from the end of the job to the receiver.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from schemas.jobs import Status
from storage import claims, jobs, versions
from storage.claims import Claim, Ending
from storage.database import Database
from storage.jobs import Submission
from storage.objects.memory import MemoryObjectStore
from tasks.settings import TaskSettings
from tasks.webhooks.sender import Sender
from tests.contract.sql import QUEUE, new_job
from tests.receiver import Received, Receiver, answer, run_receiver

GROUP = 10
QUIET_SECONDS = 0.2


@dataclass(frozen=True)
class Wanted:
    """One round: how many deliveries to how many receivers, and how many of these hang or answer 500."""

    deliveries: int
    receivers: int
    hanging: int
    failing: int
    per_second: int
    """How many jobs end each second; 0 means as many as SQL takes."""


@dataclass(frozen=True)
class Seen:
    """What the healthy receivers saw."""

    missing: int
    delays: list[float]
    seconds: float
    peak_mib: int
    cpu_seconds: float


def _receive(door: Connection, wanted: Wanted) -> None:
    asyncio.run(_run_receivers(door, wanted))


async def _run_receivers(door: Connection, wanted: Wanted) -> None:
    """Serve until told to stop, then tell when which webhook came."""
    async with asyncio.TaskGroup() as group:
        stop = asyncio.Event()
        made = [Receiver() for _ in range(wanted.receivers)]
        for number, receiver in enumerate(made):
            if number < wanted.hanging + wanted.failing:
                receiver.reply = _hang if number < wanted.hanging else _fail
            group.create_task(_serve(receiver, stop))
        while not all(receiver.port for receiver in made):  # noqa: ASYNC110 - they start within milliseconds
            await asyncio.sleep(0.01)
        door.send([receiver.url for receiver in made])
        healthy = made[wanted.hanging + wanted.failing :]
        while await asyncio.to_thread(door.recv) == "count":
            door.send(sum(len(receiver.received) for receiver in healthy))
        door.send([{one.headers["webhook-id"]: one.at for one in receiver.received} for receiver in healthy])
        stop.set()


def _hang(_: Received) -> bytes | None:
    return None


def _fail(_: Received) -> bytes | None:
    return answer(500)


async def _serve(receiver: Receiver, stop: asyncio.Event) -> None:
    async with run_receiver(receiver):
        await stop.wait()


def _end_jobs(database: Database, urls: list[str], wanted: Wanted) -> None:
    """End so many jobs, one webhook each, receiver after receiver, no faster than wanted."""
    began_at = time.monotonic()
    for first in range(0, wanted.deliveries, GROUP):
        if wanted.per_second:
            time.sleep(max(0.0, began_at + first / wanted.per_second - time.monotonic()))
        numbers = range(first, min(first + GROUP, wanted.deliveries))
        new = [new_job(webhook=_hook(urls[number % len(urls)])) for number in numbers]
        submissions = [Submission(job, '{"prompt":"hello"}') for job in new]
        database.transact(partial(jobs.submit, submissions=submissions))
        [taken] = database.transact(partial(claims.claim, wishes=[Claim(QUEUE, "bench", GROUP)]))
        endings = [Ending(job.id, job.attempt, Status.SUCCEEDED, output='{"text":"done"}') for job in taken.jobs]
        database.transact(partial(claims.finish, endings=endings))


def _hook(url: str) -> str:
    origin = url.removesuffix("/hook")
    return json.dumps({"base": "http://bench", "url": url, "origin": origin, "events": "job.succeeded"})


def run(wanted: Wanted, url: str) -> Seen:
    """Run one round in a database of its own."""
    database = Database(url)
    versions.migrate(database)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_receive, args=(there, wanted), daemon=True)
    process.start()
    urls: list[str] = here.recv()
    settings = TaskSettings.model_validate(
        {"egress_allow": "127.0.0.0/8", "egress_ports": "1-65535", "egress_http": True}
    )
    sender = Sender(database, MemoryObjectStore(), settings)
    sender.start()
    began_at, cpu_before = time.monotonic(), time.process_time()
    ending = threading.Thread(target=_end_jobs, args=(database, urls, wanted))
    ending.start()
    expected = wanted.deliveries * (wanted.receivers - wanted.hanging - wanted.failing) // wanted.receivers
    while _count(here) < expected and time.monotonic() - began_at < 300:
        time.sleep(QUIET_SECONDS)
    seconds = time.monotonic() - began_at
    cpu_seconds = time.process_time() - cpu_before
    here.send("stop")
    came: list[dict[str, float]] = here.recv()
    ended = _ended(database, urls[wanted.hanging + wanted.failing :])
    sender.stop(30)
    process.join(10)
    database.close()
    delays = sorted(one[webhook_id] - ended[webhook_id] for one in came for webhook_id in one)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Seen(len(ended) - len(delays), delays, seconds, peak, cpu_seconds)


def _count(door: Connection) -> int:
    door.send("count")
    count: int = door.recv()
    return count


def _ended(database: Database, urls: list[str]) -> dict[str, float]:
    query = sa.text("SELECT id, occurred_at, url FROM webhook_deliveries")
    rows: Any = database.read(lambda connection: list(connection.execute(query)))
    return {row.id: row.occurred_at for row in rows if row.url in urls}


def main() -> None:
    """Run without bad receivers, then with them, and print both."""
    parser = argparse.ArgumentParser("python -m bench.webhooks")
    parser.add_argument("--deliveries", type=int, default=10_000)
    parser.add_argument("--url", help="a database to use instead of new SQLite files; it is not emptied")
    given = parser.parse_args()
    many, paced = given.deliveries, given.deliveries // 2
    rounds = {
        "burst, all well": Wanted(many, 50, 0, 0, 0),
        "burst, 10 hang, 10 answer 500": Wanted(many, 50, 10, 10, 0),
        "150 a second, all well": Wanted(paced, 50, 0, 0, 150),
        "150 a second, 10 hang, 10 answer 500": Wanted(paced, 50, 10, 10, 150),
    }
    for name, wanted in rounds.items():
        with tempfile.TemporaryDirectory() as folder:
            seen = run(wanted, given.url or f"sqlite:///{Path(folder) / 'bench.db'}")
        p50, p99 = (seen.delays[int(len(seen.delays) * part)] for part in (0.5, 0.99))
        cost = seen.cpu_seconds / wanted.deliveries * 1000
        print(
            f"{name}: {len(seen.delays)} arrived, {seen.missing} missing, {len(seen.delays) / seen.seconds:.0f}/s, "
            f"delay p50 {p50 * 1000:.0f} ms p99 {p99 * 1000:.0f} ms, {cost:.2f} CPU-ms each, peak {seen.peak_mib} MiB"
        )


if __name__ == "__main__":
    main()
