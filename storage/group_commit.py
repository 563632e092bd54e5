"""Group commit, leader and follower: whoever finds the door free goes alone, the next leader takes all who wait.

What may come later lets the others go first, and never shares their commit while it has not waited for long.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from schemas.errors import DatabaseFaultError

Operation = Callable[..., Any]
Commit = Callable[[list[tuple[Operation, list[Any]]]], list[Sequence[Any]]]
"""Runs several operations, each with all its arguments, in one transaction; results in the same shape."""
Answer = Future[Any] | asyncio.Future[Any]

GROUP_LIMIT = 256
LATER_SECONDS = 0.1
"""So long others go first."""


class _Place:
    """One write in the line, where its answer goes, and what the answer is."""

    __slots__ = ("answer", "argument", "due_at", "error", "is_left", "operation", "result")

    def __init__(self, operation: Operation, argument: Any, answer: Answer) -> None:
        self.due_at = 0.0
        self.operation = operation
        self.argument = argument
        self.answer = answer
        self.is_left = False
        self.result: Any = None
        self.error: Exception | None = None

    def settle(self) -> None:
        """Give the answer; in the loop that waits for it, if it is a loop's."""
        if self.answer.done():
            return
        if self.error is None:
            self.answer.set_result(self.result)
        else:
            self.answer.set_exception(self.error)


class GroupCommit:
    """Collects concurrent writes and commits them together; an idle door costs nothing."""

    def __init__(self, commit: Commit, answer_seconds: float) -> None:
        self._commit = commit
        self._answer_seconds = answer_seconds
        self._waiting: deque[_Place] = deque()
        self._later: deque[_Place] = deque()
        self._door = threading.Lock()
        self._leader = ThreadPoolExecutor(1, thread_name_prefix="sql-write")
        self._is_called = False

    def run(self, operation: Operation, argument: Any) -> Any:
        """Commit one operation from a thread; return its result or raise its own error."""
        answer: Future[Any] = Future()
        place = _Place(operation, argument, answer)
        self._waiting.append(place)
        if self._door.acquire(blocking=False):
            try:
                self._lead()
            finally:
                self._door.release()
        self._call_leader()
        try:
            return answer.result(self._answer_seconds)
        except TimeoutError:
            place.is_left = True
            raise self._timeout() from None

    async def arun(self, operation: Operation, argument: Any, *, later: bool = False) -> Any:
        """Commit one operation from the event loop; a caller that leaves takes nothing along."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        place = _Place(operation, argument, answer)
        if later:
            place.due_at = time.monotonic() + LATER_SECONDS
            self._later.append(place)
        else:
            self._waiting.append(place)
        loop.call_soon(self._call_leader)  # behind all who are about to write in this turn of the loop
        timer = loop.call_later(self._answer_seconds, self._give_up, place)
        try:
            return await answer
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the leader's thread."""
        self._leader.shutdown(wait=True)

    def _give_up(self, place: _Place) -> None:
        """A write that no leader has taken yet will never happen; of one that was taken, nobody knows."""
        place.is_left = True
        if not place.answer.done():
            place.answer.set_exception(self._timeout())

    def _timeout(self) -> DatabaseFaultError:
        return DatabaseFaultError(f"SQL did not answer within {self._answer_seconds:g} seconds")

    def _call_leader(self) -> None:
        """Whoever holds the door looks again after leaving it; nobody holds it: the leader's thread must come."""
        if (self._waiting or self._later) and not self._is_called and not self._door.locked():
            self._is_called = True
            self._leader.submit(self._lead_until_empty)

    def _lead_until_empty(self) -> None:
        self._is_called = False
        while (self._waiting or self._later) and self._door.acquire(blocking=False):
            try:
                self._lead()
            finally:
                self._door.release()

    def _lead(self) -> None:
        group = self._take(GROUP_LIMIT)
        if not group:
            return
        try:
            self._commit_together(group)
        except Exception as error:  # noqa: BLE001 - each caller gets its own error below
            group += self._commit_alone(group, error)
        _answer(group)

    def _take(self, limit: int) -> list[_Place]:
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), limit))]
        while self._later and (not group or self._later[0].due_at <= time.monotonic()):
            group.append(self._later.popleft())
        return [place for place in group if not place.is_left]

    def _commit_together(self, group: Sequence[_Place]) -> None:
        by_operation: dict[Operation, list[_Place]] = {}
        for place in group:
            by_operation.setdefault(place.operation, []).append(place)
        work = [(operation, [place.argument for place in places]) for operation, places in by_operation.items()]
        for places, results in zip(by_operation.values(), self._commit(work), strict=True):
            for place, result in zip(places, results, strict=True):
                place.result = result

    def _commit_alone(self, group: Sequence[_Place], error: Exception) -> list[_Place]:
        """Nothing of a failed group was committed: run each alone, so that one bad write fails alone.

        A sick database is asked no more: the rest, and all who wait behind it, get its answer at once, or their
        waiting would add up. Return who waited behind.
        """
        alone = deque(group)
        while alone and not isinstance(error, DatabaseFaultError):
            place = alone.popleft()
            try:
                self._commit_together([place])
            except Exception as own_error:  # noqa: BLE001 - it is raised where the answer is waited for
                place.error = error = own_error
        if not isinstance(error, DatabaseFaultError):
            return []
        behind = self._take(len(self._waiting)) + [place for place in self._later if not place.is_left]
        self._later.clear()
        for place in (*alone, *behind):
            place.error = error
        return behind


def _answer(group: Iterable[_Place]) -> None:
    """Answer everybody; those in an event loop together, since waking it is what costs."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Place]] = {}
    for place in group:
        if isinstance(place.answer, asyncio.Future):
            by_loop.setdefault(place.answer.get_loop(), []).append(place)
        else:
            place.settle()
    for loop, places in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle_all, places)


def _settle_all(places: Iterable[_Place]) -> None:
    for place in places:
        place.settle()
