"""A database and an object store that say no for a while."""

from __future__ import annotations

import asyncio

from tests.chaos.faults.fault import Fault

SECONDS = 3.0
FELT_SECONDS = 1.0


class ObjectStoreErrors(Fault):
    """The object store answers 500 to everything."""

    name = "s3-500"

    async def inject(self) -> None:
        door = self.scene.stack.servers.s3_door
        if door is None:
            raise RuntimeError("this platform talks to its object store directly")
        await self.scene.until_busy()
        self.note_what_runs()
        refused_before = len(door.refused)
        door.fall_sick()
        try:
            await asyncio.sleep(SECONDS)
        finally:
            door.get_well()
        puts = [line for line in door.refused[refused_before:] if line.startswith("PUT ")]
        if puts:
            self.proof = f"{len(puts)} puts were answered with 500"


class DatabaseLocked(Fault):
    """Somebody holds the database's lock: nobody can write."""

    name = "db-locked"

    async def inject(self) -> None:
        client = self.scene.load.client
        await self.scene.until_busy()
        self.note_what_runs()
        client.slowest_submit = 0.0
        holding = asyncio.create_task(self.scene.rows.hold_locked(SECONDS))
        await asyncio.sleep(0.3)
        sent = self.scene.load.submit_next(10)
        await holding
        await self.scene.load.submitted(sent)
        refusals = sum(history.refusals for history in sent)
        if refusals or client.slowest_submit > FELT_SECONDS:
            self.proof = f"the slowest submit took {client.slowest_submit:.1f} s, {refusals} were refused"
