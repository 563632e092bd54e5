"""An API that dies between two steps of a submit."""

from __future__ import annotations

import asyncio

from tests.chaos.faults.fault import Fault
from tests.chaos.history import JobHistory
from tests.chaos.scene import RESTART_SECONDS

BURST = 24
LEAST_KILLS, MOST_KILLS = 2, 10
SICK_SECONDS = 2.5


class ApiKillBeforeReply(Fault):
    """Kill -9 of the API in a burst of submits, until one died after its commit and before its answer."""

    name = "api-kill-before-reply"

    async def inject(self) -> None:
        sent: list[JobHistory] = []
        for number in range(MOST_KILLS):
            burst = self.scene.load.submit_next(BURST)
            answers = self.scene.chance.randint(1, BURST // 2)
            while sum(bool(history.job_ids) for history in burst) < answers:  # noqa: ASYNC110 - to strike at once
                await asyncio.sleep(0)
            await self.scene.kill_and_wait([self.scene.part("api")])
            await self.scene.load.submitted(burst)
            sent += burst
            lost = sum(1 for history in sent if history.lost_replies)
            replayed = sum(1 for history in sent if history.lost_replies and history.was_replayed)
            self.seen = f"{number + 1} kills, {lost} answers lost, {replayed} of them had made their job"
            if replayed and number + 1 >= LEAST_KILLS:
                self.proof = self.seen
                return


class ApiKillBeforeHint(Fault):
    """Redis freezes, jobs are accepted all the same, and the API dies before it can send their hints."""

    name = "api-kill-before-hint"

    async def inject(self) -> None:
        server = self.scene.stack.servers.redis
        server.pause()
        try:
            self.scene.load.submit_next(BURST)
            await asyncio.sleep(SICK_SECONDS)  # by now the API has noticed and drops hints
            unhinted = self.scene.load.submit_next(BURST)
            await asyncio.sleep(SICK_SECONDS)
            accepted = sum(1 for history in unhinted if history.job_ids)
            api = self.scene.part("api")
            starts = api.starts
            api.kill9()
        finally:
            server.resume()
        await api.wait_ready(RESTART_SECONDS, after=starts)
        if accepted:
            self.proof = f"{accepted} of {len(unhinted)} jobs were accepted while no hint could leave the API"
