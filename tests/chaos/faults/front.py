"""An API that dies between two steps of a submit."""

from __future__ import annotations

import asyncio

from tests.chaos.faults.fault import Fault
from tests.chaos.history import JobHistory
from tests.chaos.scene import RESTART_SECONDS

BURST = 24
KILLS, MOST_FREEZES = 2, 60
LONGEST_MOMENT_SECONDS = 0.02
SETTLED_SECONDS = 0.05
SICK_SECONDS = 2.5


class ApiKillBeforeReply(Fault):
    """Kill -9 of the API when a submit is committed and not yet answered; frozen, it can be looked at for that."""

    name = "api-kill-before-reply"

    async def inject(self) -> None:
        sent: list[JobHistory] = []
        for _ in range(KILLS):
            sent += await self._kill_between()
        await self.scene.load.submitted(sent)
        lost = sum(1 for history in sent if history.lost_replies)
        replayed = sum(1 for history in sent if history.lost_replies and history.was_replayed)
        self.seen = f"{lost} answers of {len(sent)} were lost, {replayed} of them had made their job"
        self.proof = self.seen if replayed else ""

    async def _kill_between(self) -> list[JobHistory]:
        api, sent = self.scene.part("api"), list[JobHistory]()
        for _ in range(MOST_FREEZES):
            if sum(not history.job_ids for history in sent) < BURST // 2:
                sent += self.scene.load.submit_next(BURST)
            await asyncio.sleep(self.scene.chance.uniform(0, LONGEST_MOMENT_SECONDS))
            api.stop()
            await asyncio.sleep(SETTLED_SECONDS)  # what was answered has arrived by now
            unanswered = [history.key for history in sent if not history.job_ids]
            if self.scene.rows.admitted(unanswered):
                break
            api.cont()
        await self.scene.kill_and_wait([api])
        return sent


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
