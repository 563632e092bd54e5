"""What runs of real engines have in common: what came out in calm must come out again while faults strike."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from schemas.base import JsonObject
from tests.chaos.checker import check
from tests.chaos.client import Client
from tests.chaos.database import Rows
from tests.chaos.history import Expectation, JobHistory, digest
from tests.chaos.keeper import Kept
from tests.chaos.run import Options, Report, Say, orphans
from tests.chaos.stack import Stack
from tests.chaos.waiting import until

START_SECONDS = 240.0
PATIENCE_SECONDS = 180.0

Wish = tuple[str, str | None]
"""What is asked, and the adapter that it is asked with."""


@dataclass
class CalmScene(ABC):
    """The platform, its one engine, and the wishes whose outcome is known."""

    part: ClassVar[str]
    """The worker with the engine."""
    busy_jobs: ClassVar[int]
    """A fault strikes when so many run."""

    stack: Stack
    client: Client
    rows: Rows
    chance: random.Random
    outputs: dict[Wish, str] = field(default_factory=dict)
    """The digest of what came out in calm."""
    histories: list[JobHistory] = field(default_factory=list)

    @abstractmethod
    def body(self, wish: Wish) -> JsonObject:
        """Return the job that asks for it."""

    @abstractmethod
    async def see(self, wish: Wish, job: JsonObject, history: JobHistory) -> None:
        """Look at what came out; in calm it is what must come out again."""

    @property
    def worker(self) -> Kept:
        """Return the worker with the engine."""
        return self.stack.keeper.parts[self.part]

    async def learn(self, wishes: Iterable[Wish]) -> None:
        """Ask for everything once in calm, alone."""
        for wish in wishes:
            history = JobHistory(f"calm-{len(self.outputs)}", Expectation())
            await self.client.submit(self.body(wish), history)
            job = await self._end(history)
            if job["status"] != "succeeded":
                raise RuntimeError(f"{history.job_id} was asked in calm and is {job['status']}: {job['error']}")
            await self.see(wish, job, history)
            self.outputs[wish] = digest(job["output"])

    async def ask(self, number: int) -> list[tuple[Wish, JobHistory]]:
        """Submit wishes whose outcome is known."""
        asked = []
        for wish in self.chance.choices(list(self.outputs), k=number):
            history = JobHistory(f"job-{len(self.histories)}", Expectation(output=self.outputs[wish]))
            self.histories.append(history)
            asked.append((wish, history))
        await asyncio.gather(*(self.client.submit(self.body(wish), history) for wish, history in asked))
        return asked

    async def answered(self, asked: list[tuple[Wish, JobHistory]]) -> None:
        """Wait until these have ended, and look at what came out."""
        jobs = await asyncio.gather(*(self._end(history) for _, history in asked))
        for job, (wish, history) in zip(jobs, asked, strict=True):
            if job["status"] == "succeeded":
                await self.see(wish, job, history)

    async def _end(self, history: JobHistory) -> JsonObject:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                job = await self.client.look(history, 5)
                if job is not None and history.has_ended:
                    return job


SceneT = TypeVar("SceneT", bound=CalmScene)
Strikes = Mapping[str, Callable[[SceneT], Awaitable[str]]]


async def strike_all(scene: SceneT, strikes: Strikes[SceneT], options: Options, say: Say) -> Report:
    """Strike while jobs run, one fault after the other; count what the callers saw."""
    say(f"{len(scene.outputs)} wishes were granted in calm")
    never_fired = []
    for name in options.faults:
        asked = await scene.ask(-(-options.jobs // len(options.faults)))
        await until(lambda: len(scene.rows.running()) >= scene.busy_jobs, PATIENCE_SECONDS)
        running = len(scene.rows.running())
        proof = await strikes[name](scene) if running else ""
        await scene.answered(asked)
        again = sum(1 for _, history in asked if (look := history.last_look) and look.attempt > 1)
        say(f"{name}: {proof or 'NEVER FIRED'}; {running} jobs were running, {again} of {len(asked)} ran again")
        if not proof:
            never_fired.append(name)
    report = Report()
    report.violations = check(scene.histories) | {"never_fired": never_fired, "disorder": scene.rows.disorder()}
    report.accepted = len(scene.histories)
    report.statuses = Counter(str(look.status) for one in scene.histories if (look := one.last_look))
    return report


def note_orphans(report: Report, folder: Path) -> Report:
    """Add what still runs when nothing should."""
    report.violations["orphans"] = orphans(folder)
    return report
