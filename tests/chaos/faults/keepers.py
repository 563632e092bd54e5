"""The parts that keep order die while there is something to put in order."""

from __future__ import annotations

from tests.chaos.faults.fault import Fault


class KillMaintenance(Fault):
    """Kill -9 of the maintenance worker when all hints were just forgotten."""

    name = "kill-maintenance"
    part = "maintenance"

    async def inject(self) -> None:
        await self.scene.until_busy()
        self.note_what_runs()
        victim = self.scene.part(self.part)
        deaths = len(victim.exits)
        with self.scene.redis() as client:
            client.flushall()
        await self.scene.kill_and_wait([victim])
        if victim.exits[deaths:]:
            self.proof = f"{self.part} died with {victim.exits[deaths]} and came back"


class KillBeat(KillMaintenance):
    """Kill -9 of beat when all hints were just forgotten."""

    name = "kill-beat"
    part = "beat"
