"""Workers that die, freeze, or are asked to stop."""

from __future__ import annotations

import asyncio

from tests.chaos.faults.fault import Fault
from tests.chaos.keeper import Kept
from tests.chaos.scene import DRAIN_SECONDS, LEASE_SECONDS, RESTART_SECONDS, TICK_SECONDS
from tests.chaos.waiting import until

TRIES = 3
LONGEST_FREEZE_SECONDS = 6.0


class KillWorker(Fault):
    """Kill -9 of the worker that holds most jobs."""

    name = "kill-worker"
    needs_calm = True

    async def inject(self) -> None:
        victim, held = await self.scene.busy_worker()
        await self._kill([victim], held)

    async def _kill(self, victims: list[Kept], held: dict[str, int]) -> None:
        self.held = held
        self._lost_before = self.scene.rows.total_lost()
        await self.scene.kill_and_wait(victims)

    async def judge(self) -> None:
        if lost := self.scene.rows.total_lost() - self._lost_before:
            self.proof = f"{len(self.held)} jobs were held, {lost} were lost with their worker"


class KillAllWorkers(KillWorker):
    """Kill -9 of every worker at the same moment."""

    name = "kill-all-workers"

    async def inject(self) -> None:
        await self.scene.until_busy()
        await self._kill(self.scene.workers(), self.scene.rows.running())


class StopWorker(Fault):
    """A worker that freezes for longer than its lease and then goes on as if nothing had been."""

    name = "stop-worker"
    needs_calm = True

    async def inject(self) -> None:
        for _ in range(TRIES):
            self._frozen, self.held = await self.scene.busy_worker()
            await self._freeze()
            if self.proof:
                return
            self._frozen.cont()
            await asyncio.sleep(LEASE_SECONDS)

    async def _freeze(self) -> None:
        """Stop it for longer than its lease; inside a write on SQLite that stops the reconciler, too."""
        self._frozen.stop()
        await asyncio.sleep(LEASE_SECONDS + 2 * TICK_SECONDS + 1)
        moved, locked = len(self.held) - self.scene.rows.still_held(self.held), self.scene.rows.is_locked()
        self.seen = f"{moved} of its {len(self.held)} jobs moved on while it was frozen" + locked * ", in a write"
        self.proof = self.seen if moved else ""

    async def heal(self) -> None:
        """Look at what became of its jobs before it goes on: whatever it still writes would change that."""
        await until(lambda: self.scene.rows.have_ended(self.held), LONGEST_FREEZE_SECONDS)
        for job_id in self.held.keys() & self.scene.load.by_id.keys():
            await self.scene.load.client.look(self.scene.load.by_id[job_id])
        self._frozen.cont()


class RollingTerm(Fault):
    """SIGTERM to every worker in turn, the next one when the last is back."""

    name = "rolling-term"
    needs_calm = True

    async def inject(self) -> None:
        lost_before, held = self.scene.rows.total_lost(), 0
        for kept in [*self.scene.workers(), self.scene.part("maintenance")]:
            self.scene.load.submit_next(6)
            await asyncio.sleep(0.3)
            held += len(self.scene.held_by(kept))
            await self._restart(kept)
        self.proof = f"{held} jobs were held by workers that were asked to stop" if held else ""
        if lost := self.scene.rows.total_lost() - lost_before:
            self.broken.append(f"{lost} jobs were counted as lost by a drain")

    async def _restart(self, kept: Kept) -> None:
        starts, exits = kept.starts, len(kept.exits)
        kept.term()
        await kept.wait_ready(RESTART_SECONDS + DRAIN_SECONDS, after=starts)
        if kept.exits[exits] != 0:
            self.broken.append(f"{kept.name} ended with {kept.exits[exits]} on SIGTERM")
