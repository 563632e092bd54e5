"""Group commit, leader and follower: whoever finds the door free goes alone, the next leader takes all who wait."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from schemas.errors import DatabaseFaultError

Operation = Callable[..., Any]
Commit = Callable[[list[tuple[Operation, list[Any]]]], list[Sequence[Any]]]
"""Runs several operations, each with all its arguments, in one transaction; results in the same shape."""

GROUP_LIMIT = 256


class _Place(Future[Any]):
    """One write in the line, and its answer."""

    def __init__(self, operation: Operation, argument: Any) -> None:
        super().__init__()
        self.operation = operation
        self.argument = argument


class GroupCommit:
    """Collects concurrent writes and commits them together; an idle door costs nothing."""

    def __init__(self, commit: Commit, answer_seconds: float) -> None:
        self._commit = commit
        self._answer_seconds = answer_seconds
        self._waiting: deque[_Place] = deque()
        self._door = threading.Lock()
        self._leader = ThreadPoolExecutor(1, thread_name_prefix="sql-write")
        self._is_called = False

    def run(self, operation: Operation, argument: Any) -> Any:
        """Commit one operation from a thread; return its result or raise its own error."""
        place = self._enter(operation, argument)
        if self._door.acquire(blocking=False):
            try:
                self._lead()
            finally:
                self._door.release()
        self._call_leader()
        try:
            return place.result(self._answer_seconds)
        except TimeoutError:
            raise self._give_up(place) from None

    async def arun(self, operation: Operation, argument: Any) -> Any:
        """Commit one operation from the event loop; a caller that leaves takes nothing along."""
        place = self._enter(operation, argument)
        self._call_leader()
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await asyncio.shield(asyncio.wrap_future(place))
        except TimeoutError:
            raise self._give_up(place) from None

    def close(self) -> None:
        """End the leader's thread."""
        self._leader.shutdown(wait=True)

    def _enter(self, operation: Operation, argument: Any) -> _Place:
        place = _Place(operation, argument)
        self._waiting.append(place)
        return place

    def _give_up(self, place: _Place) -> DatabaseFaultError:
        """A write that no leader has taken yet will never happen; of one that was taken, nobody knows."""
        place.cancel()
        return DatabaseFaultError(f"SQL did not answer within {self._answer_seconds:g} seconds")

    def _call_leader(self) -> None:
        """Whoever holds the door looks again after leaving it; nobody holds it: the leader's thread must come."""
        if self._waiting and not self._is_called and not self._door.locked():
            self._is_called = True
            self._leader.submit(self._lead_until_empty)

    def _lead_until_empty(self) -> None:
        self._is_called = False
        while self._waiting and self._door.acquire(blocking=False):
            try:
                self._lead()
            finally:
                self._door.release()

    def _lead(self) -> None:
        by_operation: dict[Operation, list[_Place]] = {}
        for place in self._take(GROUP_LIMIT):
            by_operation.setdefault(place.operation, []).append(place)
        if not by_operation:
            return
        work = [(operation, [place.argument for place in places]) for operation, places in by_operation.items()]
        try:
            results = self._commit(work)
        except Exception as error:  # noqa: BLE001 - each caller gets its own error below
            self._settle_alone([place for places in by_operation.values() for place in places], error)
            return
        for places, answers in zip(by_operation.values(), results, strict=True):
            for place, answer in zip(places, answers, strict=True):
                place.set_result(answer)

    def _take(self, limit: int) -> list[_Place]:
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), limit))]
        return [place for place in group if place.set_running_or_notify_cancel()]

    def _settle_alone(self, group: list[_Place], error: Exception) -> None:
        """Nothing of a failed group was committed: run each alone, so that one bad write fails alone."""
        alone = deque(group)
        while alone and not isinstance(error, DatabaseFaultError):
            place = alone.popleft()
            try:
                [[answer]] = self._commit([(place.operation, [place.argument])])
            except DatabaseFaultError as fault:
                place.set_exception(fault)
                error = fault
            except Exception as own_error:  # noqa: BLE001 - it is raised in the caller's thread
                place.set_exception(own_error)
            else:
                place.set_result(answer)
        if alone:
            self._fail(alone, error)

    def _fail(self, group: deque[_Place], fault: Exception) -> None:
        """A sick database: all who waited behind it get the same answer at once, or their waiting would add up."""
        for place in (*group, *self._take(len(self._waiting))):
            place.set_exception(fault)
