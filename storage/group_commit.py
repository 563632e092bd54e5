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


class GroupCommit:
    """Collects concurrent writes and commits them together; an idle door costs nothing."""

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._waiting: deque[tuple[Operation, Any, Future[Any]]] = deque()
        self._door = threading.Lock()
        self._leader = ThreadPoolExecutor(1, thread_name_prefix="sql-write")
        self._leading: asyncio.Task[None] | None = None

    def run(self, operation: Operation, argument: Any) -> Any:
        """Commit one operation from a thread; return its result or raise its own error."""
        place: Future[Any] = Future()
        self._waiting.append((operation, argument, place))
        while not place.done():
            with self._door:
                if not place.done():
                    self._lead()
        return place.result()

    async def arun(self, operation: Operation, argument: Any) -> Any:
        """Commit one operation from the event loop; one thread hop serves all who wait."""
        place: Future[Any] = Future()
        self._waiting.append((operation, argument, place))
        if self._leading is None or self._leading.done():
            self._leading = asyncio.create_task(self._lead_until_empty())
        return await asyncio.shield(asyncio.wrap_future(place))  # a caller that leaves takes nothing along

    def close(self) -> None:
        """End the leader's thread."""
        self._leader.shutdown(wait=True)

    async def _lead_until_empty(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await loop.run_in_executor(self._leader, self._lead_once)

    def _lead_once(self) -> None:
        with self._door:
            self._lead()

    def _lead(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), GROUP_LIMIT))]
        by_operation: dict[Operation, list[tuple[Any, Future[Any]]]] = {}
        for operation, argument, place in group:
            by_operation.setdefault(operation, []).append((argument, place))
        work = [(operation, [argument for argument, _ in items]) for operation, items in by_operation.items()]
        try:
            results = self._commit(work)
        except Exception as error:  # noqa: BLE001 - each caller gets its own error below
            self._settle_alone(group, error)
            return
        for items, answers in zip(by_operation.values(), results, strict=True):
            for (_, place), answer in zip(items, answers, strict=True):
                place.set_result(answer)

    def _settle_alone(self, group: list[tuple[Operation, Any, Future[Any]]], error: Exception) -> None:
        """Nothing of a failed group was committed: run each alone, so that one bad write fails alone."""
        if len(group) == 1 or isinstance(error, DatabaseFaultError):
            for _, _, place in group:
                place.set_exception(error)
            return
        for operation, argument, place in group:
            try:
                [[answer]] = self._commit([(operation, [argument])])
            except Exception as own_error:  # noqa: BLE001 - it is raised in the caller's thread
                place.set_exception(own_error)
            else:
                place.set_result(answer)
