"""The gate: a hint waits here, before anything is claimed, until the engine has room.

What is not claimed can still be reordered, paused and canceled in SQL; what waits inside an engine cannot. The gate
also isolates suspects: it lets the engine empty, then they run without clean neighbours, then the others go on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
    """Lets as many in as the engine can take; knows one lock and never calls out while it holds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)  # for those who wait to enter
        self._quiet = threading.Condition(self._lock)  # for the one who waits to be alone
        self._count = dict.fromkeys(Stage, 0)
        self._free = 0
        self._waiting = 0
        self._owed = 0  # those who waited through the last isolation go first
        self._is_isolating = False
        self._is_shut = False
        self._closed = threading.Event()

    @property
    def in_flight(self) -> int:
        """Return how many jobs are past the claim and not yet over."""
        return self._count[Stage.INSIDE] + self._count[Stage.ENDING]

    def open(self, capacity: Capacity) -> None:
        """Let the first ones in: the engine is ready."""
        with self._lock:
            self._free = capacity.free
            self._room.notify_all()

    def close(self) -> None:
        """Let nobody in any more; those who wait leave empty-handed."""
        with self._lock:
            self._closed.set()
            self._room.notify_all()
            self._quiet.notify_all()

    def enter(self) -> Place | None:
        """Wait for room; None when the gate was closed."""
        with self._lock:
            self._waiting += 1
            self._room.wait_for(lambda: self._closed.is_set() or self._has_room())
            self._waiting -= 1
            if self._closed.is_set():
                return None
            self._count[Stage.ENTERING] += 1
            if self._owed:
                self._owed -= 1
                self._quiet.notify_all()
            return Place(self)

    @contextmanager
    def isolation(self) -> Iterator[bool]:
        """Wait until everybody is out and keep the others waiting; False when that is under way or makes no sense."""
        with self._lock:
            granted = self._isolate()
        try:
            yield granted
        finally:
            if granted:
                with self._lock:
                    self._end_isolation()

    def admit(self) -> Place:
        """Let one of the isolated in."""
        with self._lock:
            self._count[Stage.ENTERING] += 1
            return Place(self)

    def move(self, before: Stage, after: Stage, capacity: Capacity | None) -> Stage:
        """Count someone who goes on; return the new stage. Places call this, nobody else."""
        with self._lock:
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
        if self._waiting and self._has_room():
            self._room.notify(self._free - self._count[Stage.ENTERING])
        if self._is_shut and self._is_empty():
            self._quiet.notify_all()

    def _isolate(self) -> bool:
        if self._is_isolating or self._closed.is_set():
            return False
        self._is_isolating = True
        self._quiet.wait_for(lambda: self._closed.is_set() or not self._owed)
        self._is_shut = True
        self._quiet.wait_for(lambda: self._closed.is_set() or self._is_empty())
        if self._closed.is_set():
            self._end_isolation()
            return False
        return True

    def _end_isolation(self) -> None:
        self._is_isolating = self._is_shut = False
        self._owed = self._waiting
        self._room.notify_all()
