"""What a fault may touch, and a few questions that most faults ask."""

from __future__ import annotations

import random
from dataclasses import dataclass

import redis

from tests.chaos.database import Rows
from tests.chaos.keeper import Kept
from tests.chaos.load import Load
from tests.chaos.stack import Stack
from tests.chaos.waiting import until

LEASE_SECONDS = 2.0
TICK_SECONDS = 0.5
DRAIN_SECONDS = 1.5
RESTART_SECONDS = 60.0
BUSY_SECONDS = 15.0
BUSY_JOBS = 6


@dataclass
class Scene:
    """One run's platform, its traffic and its rows."""

    stack: Stack
    load: Load
    rows: Rows
    chance: random.Random

    def workers(self) -> list[Kept]:
        """Return the parts that have an engine."""
        return [kept for name, kept in self.stack.keeper.parts.items() if name.startswith("worker-")]

    def part(self, name: str) -> Kept:
        """Return a part."""
        return self.stack.keeper.parts[name]

    def held_by(self, kept: Kept) -> dict[str, int]:
        """Return the attempt of each job that a worker runs."""
        query = "SELECT jobs.id, attempt FROM jobs JOIN workers ON workers.id = owner"
        return dict(self.rows.read(f"{query} WHERE status = 'running' AND pid = {kept.pid}"))

    async def busy_worker(self) -> tuple[Kept, dict[str, int]]:
        """Wait for a worker with something to lose; return the one with most."""
        await self.until_busy()
        held = {kept.name: self.held_by(kept) for kept in self.workers()}
        busiest = max(self.workers(), key=lambda kept: len(held[kept.name]))
        return busiest, held[busiest.name]

    async def until_busy(self) -> None:
        """Bring more jobs than are running already and wait until they run."""
        self.load.submit_next(5 * BUSY_JOBS)
        await until(lambda: any(len(self.held_by(kept)) >= BUSY_JOBS for kept in self.workers()), BUSY_SECONDS)

    async def kill_and_wait(self, victims: list[Kept]) -> None:
        """Kill parts at once and wait until each is ready again."""
        starts = [kept.starts for kept in victims]
        for kept in victims:
            kept.kill9()
        for kept, before in zip(victims, starts, strict=True):
            await kept.wait_ready(RESTART_SECONDS, after=before)

    def redis(self) -> redis.Redis:
        """Return a client of the platform's Redis."""
        return redis.Redis.from_url(self.stack.servers.redis.url, socket_timeout=5)
