"""The event log's in-memory twin, for tests."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from schemas.events import Envelope, EventType
from storage.bell import MemoryBell
from storage.event_log.port import (
    ENTRIES_KEPT,
    LATEST_SECONDS,
    LATEST_TYPES,
    START,
    Appended,
    Batch,
    Position,
    begins_log,
    keep_seconds,
    leave_out_replaced,
    parse_position,
    resume,
)


@dataclass(slots=True)
class _Log:
    expires_at: float = math.inf
    top: Position = START
    entries: deque[Envelope] = field(default_factory=lambda: deque(maxlen=ENTRIES_KEPT))


class MemoryEventLog:
    """Event logs in a dictionary; each append rings the job's bell."""

    def __init__(self, bell: MemoryBell | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._bell = bell or MemoryBell()
        self._clock = clock
        self._logs: dict[str, _Log] = {}
        self._latest: dict[tuple[str, EventType], tuple[float, Envelope]] = {}

    async def append(self, job_id: str, envelopes: Sequence[Envelope]) -> None:
        """Append a job's next events."""
        await self.append_many([(job_id, envelopes)])

    async def append_many(self, batches: Sequence[Batch]) -> Appended:
        """Append the next events of many jobs."""
        appended = Appended(set(), set())
        for job_id, envelopes in batches:
            log = self._log(job_id)
            for envelope in envelopes:
                if log.top == START and not begins_log(envelope):
                    appended.lost.add(job_id)
                else:
                    self._keep(job_id, log, envelope)
            if seconds := keep_seconds(envelopes):
                log.expires_at = self._clock() + seconds
            if self._bell.tell(job_id, envelopes):
                appended.followed.add(job_id)
        return appended

    async def read(self, job_id: str, after: str | None) -> list[Envelope]:
        """Return what a reader at `after` has yet to see."""
        position = parse_position(after)
        entries = self._log(job_id).entries
        found = resume([entry for entry in entries if (entry.attempt, entry.seq) > position], position)
        return leave_out_replaced(found, await self.latest(job_id, EventType.PREVIEW))

    async def latest(self, job_id: str, event_type: EventType) -> Envelope | None:
        """Return the current attempt's newest event of one of LATEST_TYPES."""
        expires_at, envelope = self._latest.get((job_id, event_type), (0.0, None))
        if envelope is None or expires_at <= self._clock() or envelope.attempt != self._log(job_id).top.attempt:
            return None
        return envelope

    async def erase(self, job_ids: Sequence[str]) -> None:
        """Forget these jobs."""
        for job_id in job_ids:
            self._logs.pop(job_id, None)
            for event_type in LATEST_TYPES:
                self._latest.pop((job_id, event_type), None)

    def _log(self, job_id: str) -> _Log:
        log = self._logs.get(job_id)
        if log is None or log.expires_at <= self._clock():
            log = self._logs[job_id] = _Log()
        return log

    def _keep(self, job_id: str, log: _Log, envelope: Envelope) -> None:
        position = Position(envelope.attempt, envelope.seq)
        if position > log.top:
            log.top = position
            log.entries.append(envelope)
        if envelope.type in LATEST_TYPES:
            self._latest[job_id, envelope.type] = (self._clock() + LATEST_SECONDS, envelope)
