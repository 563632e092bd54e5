"""Waiting for jobs to end: thousands of clients, one Redis connection, one look at SQL for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from schemas.errors import FaultError
from schemas.jobs import TERMINAL
from storage import jobs
from storage.bell import Bell, Ring
from storage.database import Database

POLL_SECONDS = 1.0
"""How soon an end is noticed when no bell rings, because Redis is sick."""
PAUSE_SECONDS = 0.01
"""Between two looks at SQL, so that bells which ring together are answered together."""
LISTENING_SECONDS = 0.1
"""So long a watch waits to be told that nothing is missed any more; a sick Redis says so when it is back."""
GONE = "gone"
ENDED = {*TERMINAL, GONE}


class Watcher:
    """One client's watch over one job."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.ended = False
        """The row is terminal, or gone."""


class Watch:
    """All watchers of a process."""

    def __init__(self, database: Database, bell: Bell) -> None:
        self._database = database
        self._bell = bell
        self._watchers: dict[str, set[Watcher]] = {}
        self._asked: set[str] = set()
        self._asking = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.closing = False
        """The process is about to stop: clients are answered with what there is."""

    @asynccontextmanager
    async def over(self, job_id: str, *, to_events: bool = False) -> AsyncIterator[Watcher]:
        """Watch a job's end, or all its events; look at it only after this began, or its end may be missed."""
        async with self._bell.listen(job_id, to_events=to_events) as ring:
            if await ring.wait(LISTENING_SECONDS):
                ring.take()
            watcher = Watcher(ring)
            self._watchers.setdefault(job_id, set()).add(watcher)
            if self._task is None:
                self._task = asyncio.create_task(self._look_for_ever())
            try:
                yield watcher
            finally:
                self._watchers[job_id].discard(watcher)
                if not self._watchers[job_id]:
                    del self._watchers[job_id]

    def ask(self, job_id: str) -> None:
        """Have the job's row looked at soon."""
        self._asked.add(job_id)
        self._asking.set()

    async def until_ended(self, job_id: str, seconds: float) -> None:
        """Return when the job has ended, the time is up or the process stops."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        async with self.over(job_id) as watcher:
            self.ask(job_id)
            while not (watcher.ended or watcher.ring.has_ended or self.closing) and clock() < deadline:
                if await watcher.ring.wait(deadline - clock()) and watcher.ring.take() is None:
                    self.ask(job_id)

    def close(self) -> None:
        """Let every watcher go."""
        self.closing = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.ring.strike()

    async def aclose(self) -> None:
        """End the looking."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _look_for_ever(self) -> None:
        clock = asyncio.get_running_loop().time
        poll_at = clock()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(poll_at):
                    await self._asking.wait()
            self._asking.clear()
            asked, self._asked = self._asked, set()
            if clock() >= poll_at:
                asked, poll_at = set(self._watchers), clock() + POLL_SECONDS
            with suppress(FaultError):  # the next look comes within a second
                await self._look(sorted(asked & self._watchers.keys()))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look(self, job_ids: list[str]) -> None:
        if not job_ids:
            return
        found = await self._database.aread(lambda connection: jobs.statuses(connection, job_ids))
        for job_id in job_ids:
            if found.get(job_id, GONE) in ENDED:
                for watcher in self._watchers.get(job_id, ()):
                    watcher.ended = True
                    watcher.ring.strike()
