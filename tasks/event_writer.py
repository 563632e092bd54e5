"""Writes what jobs say while they run to the event log: few round trips for many jobs, and never a wait for Redis.

First words and ends are sent at once. What comes between is collected, tokens in one piece: for a few milliseconds
while somebody follows the job, for longer while nobody does, unless its engine has collected it already. What all jobs
of the process have said by then goes in one round trip.
"""

from __future__ import annotations

import asyncio
import time

from schemas.errors import RedisFaultError
from schemas.events import Envelope
from storage.event_log.port import EventLog
from tasks.logs import get_logger
from tasks.story import Story

COLLECT_SECONDS = 0.025
UNHEARD_SECONDS = 0.25
"""So long is collected what nobody follows; whoever begins to follow waits for the next words no longer than this."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
UNSENT_LIMIT = 2_000
"""So many events wait for a sick Redis; then they are dropped, and a snapshot takes their place later."""

log = get_logger(__name__)


class EventWriter:
    """The pen of one event loop; everything but `open` happens in the loop."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._noted: dict[tuple[str, int], Story] = {}
        self._unheard: dict[tuple[str, int], Story] = {}
        self._unsent: list[tuple[Story, list[Envelope]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._long_timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._is_urgent = False
        self._pause = FIRST_PAUSE_SECONDS
        self.dropped = 0
        """How many events were not written because Redis was sick."""

    def open(self, job_id: str, attempt: int) -> Story:
        """Begin the story of an attempt."""
        return Story(job_id, attempt, self.note)

    def note(self, story: Story, *, urgent: bool) -> None:
        """Remember that a story has something to be written."""
        if not urgent and story.audience.is_spared:
            self._unheard[story.job_id, story.attempt] = story
            if self._long_timer is None:
                self._long_timer = asyncio.get_running_loop().call_later(UNHEARD_SECONDS, self._send_unheard)
            return
        self._noted[story.job_id, story.attempt] = story
        self._unheard.pop((story.job_id, story.attempt), None)
        self._is_urgent |= urgent
        if self._sending is not None and not self._sending.done():
            return  # it looks again when its round trip is over
        if urgent:
            self._send_now()
        elif self._timer is None:
            self._send_later()

    async def flush(self, seconds: float) -> None:
        """Write what is left, for so long at most."""
        deadline = time.monotonic() + seconds
        self._take_unheard()
        while (self._noted or self._unsent) and time.monotonic() < deadline:
            if self._sending is None or self._sending.done():
                self._send_now()
            await asyncio.wait([self._sending] if self._sending else [], timeout=deadline - time.monotonic())
        if self._sending is not None:
            self._sending.cancel()

    def _send_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(COLLECT_SECONDS, self._send_now)

    def _send_unheard(self) -> None:
        self._take_unheard()
        if self._noted and (self._sending is None or self._sending.done()):
            self._send_now()

    def _take_unheard(self) -> None:
        if self._long_timer is not None:
            self._long_timer.cancel()
            self._long_timer = None
        self._noted |= self._unheard
        self._unheard = {}

    def _send_now(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while self._noted or self._unsent:
            self._is_urgent = False
            noted, self._noted = self._noted, {}
            self._unsent += [(story, said) for story in noted.values() if (said := story.take())]
            try:
                appended = await self._log.append_many(
                    [(story.job_id, envelopes) for story, envelopes in self._unsent]
                )
            except RedisFaultError as error:
                await self._endure(error)
                continue
            for story, _ in self._unsent:
                story.audience.is_there = story.job_id in appended.followed
                if story.job_id in appended.lost and not story.is_over:
                    story.is_torn = True  # of one that is over, the row tells the end
                    self._noted[story.job_id, story.attempt] = story
            self._unsent = []
            self._pause = FIRST_PAUSE_SECONDS
            if self._noted and not self._is_urgent:
                self._send_later()
                return

    async def _endure(self, error: RedisFaultError) -> None:
        """Wait a little for a sick Redis; forget what has become too much."""
        if self._pause == FIRST_PAUSE_SECONDS:
            log.warning("Events cannot be written to Redis; trying again until they can.", fault=repr(error.__cause__))
        count = sum(len(envelopes) for _, envelopes in self._unsent)
        if count > UNSENT_LIMIT:
            self.dropped += count
            for story, _ in self._unsent:
                story.is_torn = True
            self._unsent = []
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
