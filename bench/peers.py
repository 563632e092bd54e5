"""The two that are compared: their processes, how they are asked, how it is known that they are done."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import redis

from bench.catalogs import fake_model
from bench.load import Target
from stoker.parts import Part, Ready
from stoker.ports import free_port
from tests.chaos.keeper import Keeper, Surroundings
from tests.chaos.stack import ROOT, Wanted, run_stack
from tests.services import S3Server, run_redis

READY_SECONDS = 60.0
LOOK_SECONDS = 0.02
DONE_SECONDS = 60.0

CATALOG = fake_model("noop", "text", 64)


@dataclass(frozen=True)
class Peer:
    """One of the two, running."""

    name: str
    target: Target
    pids: dict[str, int]
    """The roots of its process trees, by what each is for."""
    has_done: Callable[[int], bool]
    """Whether it has finished so many jobs since it began; a look costs it nearly nothing."""
    s3: S3Server | None = None

    async def wait_done(self, wanted: int) -> float:
        """Wait until so many jobs are finished; return when that was seen."""
        deadline = time.monotonic() + DONE_SECONDS
        while not self.has_done(wanted):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not finish {wanted} jobs within {DONE_SECONDS:g} s")
            await asyncio.sleep(LOOK_SECONDS)
        return time.monotonic()


@asynccontextmanager
async def run_naive(folder: Path) -> AsyncIterator[Peer]:
    """Start uvicorn and a Celery worker as their manuals say."""
    port, programs = free_port(), Path(sys.executable).parent
    with run_redis(folder / "redis", append_only=False) as server, redis.Redis.from_url(server.url) as client:
        parts = [
            _naive_part("API", [str(programs / "uvicorn"), "bench.naive:app", "--port", str(port)]),
            _naive_part("worker", [str(programs / "celery"), "-A", "bench.naive:celery", "worker"]),
        ]
        environment = dict(os.environ) | {"NAIVE_REDIS_URL": server.url}
        async with Keeper(parts, Surroundings(folder, ROOT, environment, {"api": port})) as keeper:
            await keeper.wait_ready(READY_SECONDS)
            pids = {name: kept.pid for name, kept in keeper.parts.items()} | {"Redis": server.pid}
            target = Target(port, {}, "/jobs", {"prompt": "noop {n}"}, "", "/jobs/{id}", "SUCCESS")
            yield Peer("naive", target, pids, partial(_has_results, client))


def _naive_part(name: str, command: list[str]) -> Part:
    return Part(name, command, Ready("http", path="/openapi.json"))


def _has_results(client: redis.Redis, wanted: int) -> bool:
    return client.dbsize() >= wanted and sum(1 for _ in client.scan_iter("celery-task-meta-*", 10_000)) >= wanted


@asynccontextmanager
async def run_stoker(folder: Path) -> AsyncIterator[Peer]:
    """Start Stoker with one fake model that takes no time."""
    async with run_stack(Wanted(folder, "sqlite", CATALOG, {})) as stack:
        pids = {_purpose(name): kept.pid for name, kept in stack.keeper.parts.items()}
        pids |= {"Redis": stack.servers.redis.pid, "S3 server": stack.servers.s3.pid}
        headers = {"Authorization": f"Bearer {stack.key}"}
        job = {"kind": "text", "model": "noop", "input": {"prompt": "noop {n}", "max_tokens": 1}}
        port = int(stack.url.rpartition(":")[2])
        target = Target(port, headers, "/v1/jobs", job, "Prefer: wait=30\r\n", "/v1/jobs/{id}", "succeeded")
        with closing(sqlite3.connect(folder / "stoker.db")) as database:
            yield Peer("stoker", target, pids, partial(_has_ended, database), stack.servers.s3)


def _purpose(part: str) -> str:
    return {"api": "API", "worker-noop-cpu0": "worker"}.get(part, part)


def _has_ended(database: sqlite3.Connection, wanted: int) -> bool:
    ended = database.execute("SELECT count(*) FROM jobs WHERE status NOT IN ('queued', 'running')").fetchone()[0]
    return bool(ended >= wanted)
