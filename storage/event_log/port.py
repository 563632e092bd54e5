"""What an event log does, and the rule by which a reader resumes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from schemas.events import Envelope, EventType

ENTRIES_KEPT = 2000
"""Older entries of a job make room; whoever still needed them gets a snapshot."""
SNAPSHOT_ENTRIES = 500
"""Writers add a snapshot after this many entries."""
ENDED_SECONDS = 600
LONGEST_SECONDS = 86_400  # the log of a job that never ended, and the longest timeout that a job can have
LATEST_SECONDS = ENDED_SECONDS
LATEST_TYPES = frozenset({EventType.PROGRESS, EventType.PREVIEW})
"""The types of which the newest event can be asked for by itself."""
REPLACED_TYPES = frozenset({EventType.PREVIEW})
"""The types of which a log keeps only the newest event whole; of those before it, their places."""

Batch = tuple[str, Sequence[Envelope]]
"""A job's id and its next events."""


class Appended(NamedTuple):
    """What became of batches, by job."""

    lost: set[str]
    """Whose log was lost meanwhile."""
    followed: set[str]
    """Of whom somebody heard at once."""


class EventLog(Protocol):
    """The events of each job in order.

    Writers count `seq` from 1 without holes in each attempt, begin each attempt with `started` or `restarted`, and
    append `finished` after the row is finished. Appending twice is harmless. What a stale attempt appends is dropped,
    and so is what would begin a log in the middle: where a log was lost only a snapshot can begin it anew.
    Whoever listens to a job's events hears of each append, and what was appended when that is short; whoever waits for
    its end only of that.
    """

    async def append(self, job_id: str, envelopes: Sequence[Envelope]) -> None:
        """Append a job's next events."""
        ...

    async def append_many(self, batches: Sequence[Batch]) -> Appended:
        """Append the next events of many jobs in one round trip."""
        ...

    async def read(self, job_id: str, after: str | None) -> list[Envelope]:
        """Return what a reader at `after` has yet to see; see `resume`. A garbled position is the start."""
        ...

    async def latest(self, job_id: str, event_type: EventType) -> Envelope | None:
        """Return the current attempt's newest event of one of LATEST_TYPES."""
        ...

    async def erase(self, job_ids: Sequence[str]) -> None:
        """Forget these jobs."""
        ...


class Position(NamedTuple):
    """The last event that a reader has seen."""

    attempt: int
    seq: int


START = Position(0, 0)
# 18 digits fit into a stream id, whatever they are.
_POSITION = re.compile(r"(\d{1,18})-(\d{1,18})", re.ASCII)


def parse_position(after: str | None) -> Position:
    """Read an id on the wire; START when it is none."""
    match = _POSITION.fullmatch(after or "")
    return Position(int(match[1]), int(match[2])) if match else START


def begins_log(envelope: Envelope) -> bool:
    """Say whether a reader needs nothing that came before."""
    return envelope.seq == 1 or envelope.type is EventType.SNAPSHOT


def keep_seconds(envelopes: Sequence[Envelope]) -> int | None:
    """Return how long a log is kept from this batch on; None when the batch changes nothing about that.

    Snapshots say it again, because a Redis that forgot everything forgot this too.
    """
    if any(envelope.type is EventType.FINISHED for envelope in envelopes):
        return ENDED_SECONDS
    if any(map(begins_log, envelopes)):
        return LONGEST_SECONDS
    return None


def leave_out_replaced(stored: Sequence[Envelope], newest: Envelope | None) -> list[Envelope]:
    """Return a reader's events without the places of previews that were replaced, and with the newest one whole."""
    return [
        newest if newest is not None and envelope.id == newest.id else envelope
        for envelope in stored
        if envelope.type not in REPLACED_TYPES or (newest is not None and envelope.id == newest.id)
    ]


def resume(stored: Sequence[Envelope], position: Position) -> list[Envelope]:
    """Choose from what is stored after a position what its reader gets.

    Only the newest attempt counts. When something is missing from it, because it was trimmed or lost, the newest
    snapshot after the hole stands for all before it.
    """
    if not stored:
        return []
    attempt = stored[-1].attempt
    current = [envelope for envelope in stored if envelope.attempt == attempt]
    previous = position.seq if position.attempt == attempt else 0
    begin, whole = 0, True
    for index, envelope in enumerate(current):
        whole = whole and envelope.seq <= previous + 1
        previous = envelope.seq
        if not whole and envelope.type is EventType.SNAPSHOT:
            begin = index
    return current[begin:]


def follow_on(news: Sequence[Envelope], position: Position) -> list[Envelope]:
    """Choose from what was heard what its reader gets without looking: nothing when there is a hole before it.

    The first event of a new attempt makes all before it void, so nothing can be missing there. A stale attempt's words
    come out only while nobody has heard of the next one.
    """
    unseen = []
    for envelope in news:
        if (envelope.attempt, envelope.seq) <= position:
            continue
        if envelope.seq != (position.seq + 1 if envelope.attempt == position.attempt else 1):
            return []
        unseen.append(envelope)
        position = Position(envelope.attempt, envelope.seq)
    return unseen
