"""Webhooks whose sender, receiver, hints or database fail while they are on their way: none may be missing."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace

from schemas.jobs import Kind
from tests.chaos.faults.fault import Fault
from tests.chaos.history import JobHistory
from tests.chaos.scene import Scene
from tests.chaos.waiting import until
from tests.chaos.workload import plan_job
from tests.receiver import OK, Receiver, run_receiver

JOBS = 30
FIRST = 3
ARRIVE_SECONDS = 60.0
LOCKED_SECONDS = 3.0
SLOW_SECONDS = 0.3


class WebhookFault(Fault):
    """Jobs that tell of their end, a receiver that counts, and something that goes wrong between them."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.receiver = Receiver(delay_seconds=SLOW_SECONDS)
        self._opened = AsyncExitStack()
        self._sent: list[JobHistory] = []

    async def inject(self) -> None:
        await self._opened.enter_async_context(run_receiver(self.receiver))
        for number in range(JOBS):
            plan = plan_job(Kind.TEXT, f"{self.name}-{number}", "fake:tokens=2")
            body = plan.body | {"webhook": {"url": self.receiver.url}}
            self._sent.append(self.scene.load.submit(replace(plan, body=body)))
        await self.scene.load.submitted(self._sent)
        await until(lambda: len(self.receiver.received) >= FIRST, ARRIVE_SECONDS)
        self.note_what_runs()
        await self.strike()

    async def strike(self) -> None:
        """Break it while deliveries are on their way."""
        raise NotImplementedError

    async def judge(self) -> None:
        jobs = {job_id for history in self._sent for job_id in history.job_ids}
        await until(lambda: jobs <= self._told(), ARRIVE_SECONDS)
        if missing := jobs - self._told():
            self.broken.append(f"{len(missing)} of {len(jobs)} jobs ended and nobody was told, such as {min(missing)}")
        ids: dict[str, set[str]] = {}
        for one in self.receiver.received:
            event = json.loads(one.body)
            ids.setdefault(f"{event['type']} of {event['data']['id']}", set()).add(one.headers["webhook-id"])
        if doubled := [news for news, known in ids.items() if len(known) > 1]:
            self.broken.append(f"{len(doubled)} events came under two ids, such as {doubled[0]}")
        await self._opened.aclose()

    def _told(self) -> set[str]:
        return {json.loads(one.body)["data"]["id"] for one in self.receiver.received}


class WebhookSenderKill(WebhookFault):
    """Kill -9 of the sender while requests are on their way."""

    name = "webhook-sender-kill"

    async def strike(self) -> None:
        victim = self.scene.part("maintenance")
        deaths, open_requests = len(victim.exits), len(self.receiver.serving)
        await self.scene.kill_and_wait([victim])
        if victim.exits[deaths:] and open_requests:
            self.proof = f"the sender died with {open_requests} connections open and came back"


class WebhookDrop(WebhookFault):
    """A receiver that takes what comes and drops the connection instead of answering, for a while."""

    name = "webhook-drop"

    async def strike(self) -> None:
        self.receiver.hangs_up = True
        before = len(self.receiver.received)
        await until(lambda: len(self.receiver.received) >= before + FIRST, ARRIVE_SECONDS)
        await asyncio.sleep(2 * SLOW_SECONDS)
        self.receiver.hangs_up = False

    async def judge(self) -> None:
        await until(lambda: self._came_again() > 0, ARRIVE_SECONDS)  # the first retry is seconds away
        await super().judge()
        if again := self._came_again():
            self.proof = f"{again} deliveries were dropped and came again under their id"

    def _came_again(self) -> int:
        ids = Counter(one.headers["webhook-id"] for one in self.receiver.received)
        return sum(1 for times in ids.values() if times > 1)


class WebhookFlush(WebhookFault):
    """FLUSHALL while the receiver refuses everything: no hint is left, and no delivery is delivered."""

    name = "webhook-flushall"

    async def strike(self) -> None:
        self.receiver.reply = lambda _: b"HTTP/1.1 500 Sorry\r\nContent-Length: 0\r\n\r\n"
        await asyncio.sleep(SLOW_SECONDS)
        with self.scene.redis() as client:
            flushed = client.flushall()
        self.receiver.reply = lambda _: OK
        if flushed:
            self.proof = f"Redis forgot everything after {len(self.receiver.received)} requests"


class WebhookDatabaseLocked(WebhookFault):
    """Somebody holds the database's lock: nothing can be claimed, and no result written."""

    name = "webhook-db-locked"

    async def strike(self) -> None:
        before = len(self.receiver.received)
        await self.scene.rows.hold_locked(LOCKED_SECONDS)
        during = len(self.receiver.received) - before
        self.proof = f"the database was locked for {LOCKED_SECONDS:g} s, {during} requests came meanwhile"
