"""The traffic of a run: bursts of submits, cancels at any moment, and eyes that keep looking at everything."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from tests.chaos.client import Client
from tests.chaos.history import JobHistory
from tests.chaos.workload import Plan, plan_jobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BURST_SECONDS = 1.5
WATCHERS = 4
LOOK_SECONDS = 0.08
LIST_SECONDS = 2.0
LIST_JOBS = 50
WAIT_SECONDS = 5
WAITING_SHARE = 0.1
FETCHED_SHARE = 0.2
AGAIN_SHARE = 0.2
LAST_LOOKS = 8
DRAIN_LOOK_SECONDS = 1.0


class Load:
    """Everything that this run's client does and saw."""

    def __init__(self, client: Client, seed: int) -> None:
        self.client = client
        self.histories: list[JobHistory] = []
        self.by_id: dict[str, JobHistory] = {}
        self._plans: Iterator[Plan] = plan_jobs(seed)
        self._chance = random.Random(f"traffic of {seed}")
        self._seed = seed
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._open: deque[JobHistory] = deque()
        self._ended: list[JobHistory] = []

    def accepted(self) -> int:
        """Count the submits that were answered with a job."""
        return sum(1 for history in self.histories if history.job_ids)

    def ended(self) -> int:
        """Count the jobs that were seen to end."""
        return sum(1 for history in self.histories if history.has_ended)

    def submit(self, plan: Plan) -> JobHistory:
        """Have a job submitted; it is in the histories from now on."""
        history = JobHistory(f"chaos-{self._seed}-{len(self.histories)}", plan.expected)
        self.histories.append(history)
        self._begin(self._live(plan, history))
        return history

    def submit_next(self, number: int) -> list[JobHistory]:
        """Have the next jobs of the mixture submitted."""
        return [self.submit(plan) for plan in islice(self._plans, number)]

    async def submitted(self, histories: list[JobHistory]) -> None:
        """Wait until these are accepted."""
        while not all(history.job_ids or history.server_errors for history in histories):  # noqa: ASYNC110 - a look is cheap
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def flowing(self, jobs_per_second: float) -> AsyncIterator[None]:
        """Submit in bursts, and look at everything, for as long as the block runs."""
        tasks = [asyncio.create_task(self._burst(jobs_per_second)), asyncio.create_task(self._look_at_lists())]
        tasks += [asyncio.create_task(self._watch()) for _ in range(WATCHERS)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def drain(self, seconds: float) -> None:
        """Look until everything has ended or the time is over."""
        try:
            async with asyncio.timeout(seconds):
                while open_jobs := [history for history in self.histories if not history.has_ended]:
                    await self._look_at_each([history for history in open_jobs if history.job_ids])
                    await asyncio.sleep(DRAIN_LOOK_SECONDS)
                await asyncio.gather(*self._tasks)
        except TimeoutError:
            self.client.gives_up = True
        if self._failures:
            raise self._failures[0]

    async def stop(self) -> None:
        """Leave everything as it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def look_for_the_last_time(self) -> None:
        """Look at every job once more and fetch every result; then a part of them again."""
        known = [history for history in self.histories if history.job_ids]
        await self._look_at_each(known, fetch=True)
        await self._look_at_each(self._chance.sample(known, len(known) // 4), fetch=True)

    async def _look_at_each(self, histories: list[JobHistory], *, fetch: bool = False) -> None:
        waiting = iter(histories)

        async def look_at_the_rest() -> None:
            for history in waiting:
                job = await self.client.look(history)
                if fetch and job is not None and job["status"] == "succeeded":
                    await self.client.fetch(history, job)

        await asyncio.gather(*(look_at_the_rest() for _ in range(LAST_LOOKS)))

    def _begin(self, life: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(life)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()):
            self._failures.append(failure)

    async def _live(self, plan: Plan, history: JobHistory) -> None:
        await self.client.submit(plan.body, history)
        if history.job_id is None:
            return
        self.by_id[history.job_id] = history
        self._open.append(history)
        if plan.cancel_after is not None:
            await asyncio.sleep(plan.cancel_after)
            await self.client.cancel(history)
        elif self._chance.random() < WAITING_SHARE:
            await self.client.look(history, WAIT_SECONDS)

    async def _burst(self, jobs_per_second: float) -> None:
        while True:
            seconds = self._chance.uniform(0.2, 2) * BURST_SECONDS
            self.submit_next(round(seconds * jobs_per_second))
            await asyncio.sleep(seconds)

    async def _watch(self) -> None:
        """Look at open jobs mostly, one after the other, and at ended ones now and then: they must not change."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._ended and self._chance.random() < AGAIN_SHARE:
                await self._look_and_fetch(self._chance.choice(self._ended))
            elif self._open:
                history = self._open.popleft()
                await self._look_and_fetch(history)
                (self._ended if history.has_ended else self._open).append(history)

    async def _look_and_fetch(self, history: JobHistory) -> None:
        job = await self.client.look(history)
        if job and job["status"] == "succeeded" and self._chance.random() < FETCHED_SHARE:
            await self.client.fetch(history, job)

    async def _look_at_lists(self) -> None:
        while True:
            await asyncio.sleep(LIST_SECONDS)
            await self.client.look_at_all(self.by_id, LIST_JOBS)
