"""A job's events over any number of connections: what was seen, where to go on, when to give up. Without IO."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from math import inf

import httpx

from stoker.client.documents import Event
from stoker.client.errors import StokerError, error_of
from stoker.client.exchange import Backoff, Call, may_repeat, retry_after, unreachable

FINISHED = "finished"
LASTING_SECONDS = 5.0
"""A connection that lived so long was a good one, though the job was silent."""


class EventFeed:
    """One reader's place in one job's stream."""

    def __init__(self, call: Call, after: str | None, patience_seconds: float) -> None:
        self.is_over = False
        self._call = call
        self._backoff = Backoff(patience_seconds)
        self._seen = _position(after)
        self._unread = b""
        self._opened_at = inf

    def next_call(self) -> Call:
        """Return the request that goes on where the last connection ended."""
        self._unread, self._opened_at = b"", inf
        if self._seen is None:
            return self._call
        attempt, seq = self._seen
        return replace(self._call, headers={**self._call.headers, "Last-Event-ID": f"{attempt}-{seq}"})

    def is_open(self, answer: httpx.Response) -> bool:
        """Judge an answer: whether its body is the stream. If not, make the next call, unless it is over."""
        if answer.status_code == httpx.codes.OK:
            self._opened_at = time.monotonic()
            return True
        if answer.status_code == httpx.codes.NO_CONTENT:
            self.is_over = True
            return False
        delay = self._backoff.next_delay(retry_after(answer)) if may_repeat(self._call, answer) else None
        self._pause(delay, error_of(answer))
        return False

    def read(self, chunk: bytes) -> Iterator[Event]:
        """Yield the new events that a piece of the body completes: nothing twice, nothing of an older attempt."""
        *frames, self._unread = (self._unread + chunk.replace(b"\r", b"")).split(b"\n\n")
        for frame in frames:
            event = _parse(frame)
            if event is None or (self._seen is not None and (event.attempt, event.seq) <= self._seen):
                continue
            self._seen = (event.attempt, event.seq)
            self._backoff.succeed()
            self.is_over = event.type == FINISHED
            yield event
            if self.is_over:
                return

    def broke(self, error: httpx.TransportError | None = None) -> None:
        """Note that a connection ended before the job did; raise when it has been so for too long."""
        if time.monotonic() - self._opened_at >= LASTING_SECONDS:
            self._backoff.succeed()
        failure = unreachable(self._call, error or httpx.ReadError("The stream ended too early."))
        self._pause(self._backoff.next_delay(), failure)

    def _pause(self, delay: float | None, failure: StokerError) -> None:
        if delay is None:
            raise failure
        self._call = replace(self._call, pause_seconds=delay)


def _position(event_id: str | None) -> tuple[int, int] | None:
    if event_id is None:
        return None
    attempt, _, seq = event_id.partition("-")
    if not (attempt.isdecimal() and seq.isdecimal()):
        raise StokerError(f"'{event_id}' is not an event's id; give the id of an event that you have, such as '1-42'.")
    return int(attempt), int(seq)


def _parse(frame: bytes) -> Event | None:
    """Return a frame's event; heartbeats have none. The envelope in `data` repeats id and type."""
    data = [line[5:] for line in frame.split(b"\n") if line.startswith(b"data:")]
    if not data:
        return None
    told = json.loads(b"\n".join(data))
    return Event(told["attempt"], told["seq"], told["type"], told["at"], told["data"])
