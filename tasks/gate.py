"""The gate: nothing is claimed before the engine has room for it.

What is not claimed can still be reordered, paused and canceled in SQL; what waits inside an engine cannot. The gate
also isolates suspects: it lets the engine empty, then they run without clean neighbours, then the others go on.
All of it happens in one event loop, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum

from tasks.engine import Capacity


class Stage(IntEnum):
    """Where someone is who passed the gate."""

    ENTERING = 0  # not yet in the engine's own count
    INSIDE = 1
    ENDING = 2  # out of the engine, its result is being stored
    GONE = 3


PASSING = (Stage.ENTERING, Stage.ENDING)
"""Where what happens next is our own work and not the engine's."""


class Place:
    """One job's way past the gate, or that of a line, which lets jobs pass."""

    __slots__ = ("_gate", "_is_line", "_stage")

    def __init__(self, gate: Gate, *, is_line: bool) -> None:
        self._gate = gate
        self._is_line = is_line
        self._stage = Stage.ENTERING

    def begin(self, capacity: Capacity) -> None:
        """Say that the engine has the job and what it can take beside it."""
        self._move(Stage.INSIDE, capacity)

    def end(self, capacity: Capacity) -> None:
        """Say that the engine is done with the job and what it can take now."""
        self._move(Stage.ENDING, capacity)

    def leave(self) -> None:
        """Say that the job is over, or that there was none."""
        self._move(Stage.GONE, None)

    def _move(self, after: Stage, capacity: Capacity | None) -> None:
        before = self._stage
        if before is Stage.GONE:
            return
        self._stage = after
        if not self._is_line:
            self._gate.note_passing((after in PASSING) - (before in PASSING))
        self._gate.move(before, after, capacity)


class Gate:
    """Knows how many more the engine can take, and calls `on_room` whenever that may have become more."""

    def __init__(self) -> None:
        self.on_room: Callable[[], None] = lambda: None
        self._count = [0] * len(Stage)
        self._passing = 0  # jobs, not lines
        self._calm: asyncio.Future[None] | None = None
        self._free = 0
        self._emptied: asyncio.Future[None] | None = None  # what the one who isolates waits for
        self._is_isolating = False
        self._is_closed = False

    @property
    def in_flight(self) -> int:
        """Return how many jobs are past the claim and not yet over."""
        return self._count[Stage.INSIDE] + self._count[Stage.ENDING]

    def open(self, capacity: Capacity) -> None:
        """Let the first ones in: the engine is ready."""
        self._free = capacity.free
        self.on_room()

    def close(self) -> None:
        """Let nobody in any more."""
        self._is_closed = True
        self._wake()

    def room(self) -> int:
        """Return how many may enter now."""
        if self._is_isolating or self._is_closed:
            return 0
        return max(0, self._free - self._count[Stage.ENTERING])

    def enter(self, *, is_line: bool = False) -> Place:
        """Take a place: one of the room, or one of the isolated."""
        self._count[Stage.ENTERING] += 1
        self._passing += not is_line
        return Place(self, is_line=is_line)

    async def calm(self, seconds: float) -> None:
        """Wait until no job is on its way into the engine or out of it, but no longer than so many seconds."""
        if self._passing:
            if self._calm is None or self._calm.done():
                self._calm = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._calm], timeout=seconds)

    @asynccontextmanager
    async def isolation(self) -> AsyncIterator[bool]:
        """Let everybody leave and nobody enter; False when that is under way already or makes no sense."""
        if self._is_isolating or self._is_closed:
            yield False
            return
        self._is_isolating = True
        try:
            while not (self._is_empty() or self._is_closed):
                self._emptied = asyncio.get_running_loop().create_future()
                await self._emptied
            yield not self._is_closed
        finally:
            self._is_isolating = False
            self._wake()

    def note_passing(self, more: int) -> None:
        """Count a job that is on its way, or no more. Places call this, nobody else."""
        self._passing += more
        if not self._passing and self._calm is not None and not self._calm.done():
            self._calm.set_result(None)

    def move(self, before: Stage, after: Stage, capacity: Capacity | None) -> None:
        """Count someone who goes on. Places call this, nobody else."""
        self._count[before] -= 1
        if after is not Stage.GONE:
            self._count[after] += 1
        if capacity is not None:
            self._free = capacity.free
        self._wake()

    def _is_empty(self) -> bool:
        return not (self._count[Stage.ENTERING] or self._count[Stage.INSIDE] or self._count[Stage.ENDING])

    def _wake(self) -> None:
        if self.room():
            self.on_room()
        if self._emptied is not None and not self._emptied.done() and (self._is_empty() or self._is_closed):
            self._emptied.set_result(None)
