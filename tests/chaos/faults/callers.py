"""What callers do to the platform: cancel at the worst moment, let jobs expire, send one that kills its worker."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from schemas.jobs import Status
from tests.chaos.faults.fault import Fault
from tests.chaos.history import Expectation, JobHistory
from tests.chaos.scene import RESTART_SECONDS
from tests.chaos.waiting import until
from tests.chaos.workload import CANCELED, IMAGE, QUEUES, SLOTS, TEXT, Plan, plan_job

RACERS = 60
LONGEST_RACE_MS = 600
LOOKS = 6
SHORT_TTL_SECONDS = 0.5
POISON_SECONDS = 150.0
EXPIRED = Expectation(frozenset({Status.EXPIRED, Status.SUCCEEDED}))
LOST = Expectation(frozenset({Status.FAILED}), frozenset({"worker_lost"}))


def _status(history: JobHistory) -> Status | None:
    return history.last_look.status if history.last_look else None


class CancelRace(Fault):
    """Cancels that meet claims and finishes."""

    name = "cancel-race"

    async def inject(self) -> None:
        racers = [self.scene.load.submit(self._plan(number)) for number in range(RACERS)]
        await self.scene.load.submitted(racers)
        await asyncio.gather(*(self._follow(history) for history in racers))
        ends = [end for history in racers if (end := history.last_look)]
        canceled = [end for end in ends if end.status is Status.CANCELED]
        running = sum(1 for end in canceled if end.attempt)
        won = len(ends) - len(canceled)
        self.seen = f"{len(canceled)} cancels won, {running} of them over a running job; {won} finishes won"
        if running and won:
            self.proof = self.seen

    async def _follow(self, history: JobHistory) -> None:
        for _ in range(LOOKS):
            await self.scene.load.client.look(history, wait_seconds=5)
            if history.has_ended:
                return

    def _plan(self, number: int) -> Plan:
        chance = self.scene.chance
        orders = f"fake:sleep-ms={chance.randint(0, LONGEST_RACE_MS)} fake:tokens=3"
        plan = plan_job(TEXT, f"race {number}", orders, expected=CANCELED)
        return replace(plan, cancel_after=chance.uniform(0, LONGEST_RACE_MS / 1000))


class ExpirePaused(Fault):
    """Jobs whose time to live passes while their queue is paused."""

    name = "expire-paused"

    async def inject(self) -> None:
        client, load = self.scene.load.client, self.scene.load
        for queue in QUEUES[TEXT]:
            await client.order(f"/v1/queues/{queue}/pause")
        policy = {"ttl_seconds": SHORT_TTL_SECONDS}
        self._mortals = [load.submit(plan_job(TEXT, f"mortal {number}", "", policy, EXPIRED)) for number in range(8)]
        await load.submitted(self._mortals)
        await asyncio.sleep(SHORT_TTL_SECONDS + 2)

    async def heal(self) -> None:
        for queue in QUEUES[TEXT]:
            await self.scene.load.client.order(f"/v1/queues/{queue}/resume")

    async def judge(self) -> None:
        for history in self._mortals:
            await self.scene.load.client.look(history)
        if expired := sum(1 for history in self._mortals if _status(history) is Status.EXPIRED):
            self.proof = f"{expired} of {len(self._mortals)} jobs expired"


class Poison(Fault):
    """One job kills its worker whenever it runs, in one engine with as many innocents as fit beside it."""

    name = "poison"
    needs_calm = True

    async def inject(self) -> None:
        load, rows, queue = self.scene.load, self.scene.rows, QUEUES[IMAGE][0]
        await load.client.order(f"/v1/queues/{queue}/pause")
        await until(lambda: not rows.running([queue]), RESTART_SECONDS)
        high = {"priority": "high"}
        innocents = [
            load.submit(plan_job(IMAGE, f"innocent {number}", "fake:sleep-ms=800", high))
            for number in range(SLOTS - 1)
        ]
        await load.submitted(innocents)
        self._poison = load.submit(plan_job(IMAGE, "poison", "fake:sleep-ms=500 fake:exit", high, LOST))
        await load.submitted([self._poison])
        await load.client.order(f"/v1/queues/{queue}/resume")
        self._neighbours = await self._count_neighbours(queue)
        self._innocents = innocents

    async def _count_neighbours(self, queue: str) -> int:
        """Watch the first attempt; return the most jobs that ran beside the poison."""
        most = 0

        def is_over() -> bool:
            nonlocal most
            running = self.scene.rows.running([queue])
            if self._poison.job_id in running:
                most = max(most, len(running) - 1)
            return most > 0 and self._poison.job_id not in running

        await until(is_over, RESTART_SECONDS)
        return most

    async def heal(self) -> None:
        everyone = [self._poison, *self._innocents]
        ids = ", ".join(repr(history.job_id) for history in everyone)
        open_jobs = f"id IN ({ids}) AND status IN ('queued', 'running')"
        await until(lambda: not self.scene.rows.count(open_jobs), POISON_SECONDS)
        for kept in self.scene.workers():
            await kept.wait_ready(RESTART_SECONDS)

    async def judge(self) -> None:
        for history in [self._poison, *self._innocents]:
            await self.scene.load.client.look(history)
        saved = sum(1 for history in self._innocents if _status(history) is Status.SUCCEEDED)
        if self._neighbours >= SLOTS // 2:
            self.proof = f"{self._neighbours} jobs ran beside the poison, {saved} of {len(self._innocents)} succeeded"
        if _status(self._poison) is not Status.FAILED or saved < len(self._innocents):
            self.broken.append(f"the poison is {_status(self._poison)}, {saved} innocents succeeded")
