"""The gate: a hint waits here, before anything is claimed, until the engine has room.

What is not claimed can still be reordered, paused and canceled in SQL; what waits inside an engine cannot. The gate
also isolates suspects: it lets the engine empty, then they run without clean neighbours, then the others go on.
All of it happens in one event loop, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto

from tasks.engine import Capacity


class Stage(Enum):
    """Where someone is who passed the gate."""

    ENTERING = auto()  # not yet in the engine's own count
    INSIDE = auto()
    ENDING = auto()  # out of the engine, its result is being stored
    GONE = auto()


class Place:
    """One job's way past the gate."""

    __slots__ = ("_gate", "_stage")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._stage = Stage.ENTERING

    def begin(self, capacity: Capacity) -> None:
        """Say that the engine has the job and what it can take beside it."""
        self._stage = self._gate.move(self._stage, Stage.INSIDE, capacity)

    def end(self, capacity: Capacity) -> None:
        """Say that the engine is done with the job and what it can take now."""
        self._stage = self._gate.move(self._stage, Stage.ENDING, capacity)

    def leave(self) -> None:
        """Say that the job is over, or that there was none."""
        self._stage = self._gate.move(self._stage, Stage.GONE, None)


class Gate:
    """Lets as many in as the engine can take, in the order in which they came."""

    def __init__(self) -> None:
        self._count = dict.fromkeys(Stage, 0)
        self._free = 0
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._quiet: asyncio.Future[None] | None = None  # what the one who isolates waits for
        self._owed = 0  # those who waited through the last isolation go first
        self._is_isolating = False
        self._is_shut = False
        self._is_closed = False

    @property
    def in_flight(self) -> int:
        """Return how many jobs are past the claim and not yet over."""
        return self._count[Stage.INSIDE] + self._count[Stage.ENDING]

    def open(self, capacity: Capacity) -> None:
        """Let the first ones in: the engine is ready."""
        self._free = capacity.free
        self._wake()

    def close(self) -> None:
        """Let nobody in any more; those who wait leave empty-handed."""
        self._is_closed = True
        while self._waiting:
            self._answer(self._waiting.popleft(), granted=False)
        self._wake()

    async def enter(self) -> Place | None:
        """Wait for room; None when the gate was closed."""
        if self._is_closed:
            return None
        if not self._waiting and self._has_room():
            return self.admit()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return Place(self) if await turn else None

    @asynccontextmanager
    async def isolation(self) -> AsyncIterator[bool]:
        """Wait until everybody is out and keep the others waiting; False when that is under way or makes no sense."""
        if self._is_isolating or self._is_closed:
            yield False
            return
        self._is_isolating = True
        try:
            await self._wait_until(lambda: not self._owed)
            self._is_shut = True
            await self._wait_until(self._is_empty)
            yield not self._is_closed
        finally:
            self._is_isolating = self._is_shut = False
            self._owed = len(self._waiting)
            self._wake()

    def admit(self) -> Place:
        """Let someone in without asking: one of the isolated."""
        self._count[Stage.ENTERING] += 1
        return Place(self)

    def move(self, before: Stage, after: Stage, capacity: Capacity | None) -> Stage:
        """Count someone who goes on; return the new stage. Places call this, nobody else."""
        if before is Stage.GONE:
            return before
        self._count[before] -= 1
        if after is not Stage.GONE:
            self._count[after] += 1
        if capacity is not None:
            self._free = capacity.free
        self._wake()
        return after

    def _has_room(self) -> bool:
        return not self._is_shut and self._count[Stage.ENTERING] < self._free

    def _is_empty(self) -> bool:
        return not (self._count[Stage.ENTERING] or self._count[Stage.INSIDE] or self._count[Stage.ENDING])

    def _wake(self) -> None:
        while self._waiting and self._has_room():
            self._answer(self._waiting.popleft(), granted=True)
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)

    def _answer(self, turn: asyncio.Future[bool], *, granted: bool) -> None:
        self._owed = max(0, self._owed - 1)
        if turn.done():  # whoever waited was cancelled
            return
        turn.set_result(granted)
        if granted:
            self._count[Stage.ENTERING] += 1

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not (condition() or self._is_closed):
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet
