"""A job's events as a stream: from the log while there is one, its end from the row, which is the truth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from pydantic_core import from_json

from producer_api.state import Api
from producer_api.waiting import Watcher
from schemas.errors import FaultError
from schemas.events import Envelope, EventType
from storage import jobs
from storage.event_log.port import follow_on, parse_position
from storage.rows import JobRow

END_SEQ = 999_999_999
"""The place of an end that was told without the log: who has it is known again, so that no browser asks for ever."""
HEARTBEAT_SECONDS = 15.0
LAST_WORDS_SECONDS = 2.0
"""The row ends a moment before the log does: so long its last entries are waited for."""
RECONNECT_MS = 1000
HEARTBEAT = b": heartbeat\n\n"


async def has_seen_all(api: Api, job_id: str, after: str | None) -> bool:
    """Say whether a reader who comes back has already had the last event."""
    if after is None:
        return False
    if parse_position(after).seq == END_SEQ:
        return True
    stored = await _read(api, job_id, None)
    return bool(stored) and stored[-1].type is EventType.FINISHED and stored[-1].id == after


async def stream(api: Api, row: JobRow, after: str | None) -> AsyncIterator[bytes]:
    """Yield a job's events as they go over the wire."""
    yield f"retry: {RECONNECT_MS}\n\n".encode()
    async with aclosing(follow(api, row, after)) as following:
        async for news in following:
            yield b"".join(map(frame, news)) or HEARTBEAT


async def follow(api: Api, row: JobRow, after: str | None) -> AsyncGenerator[list[Envelope]]:
    """Yield what a reader at `after` has yet to see, until the job has ended or this process stops.

    An empty list comes now and then while nothing happens.
    """
    clock = asyncio.get_running_loop().time
    over: JobRow | None = None
    over_at = 0.0
    async with api.watch.over(row.id, to_events=True) as watcher:
        news = await _read(api, row.id, after)
        while not api.watch.closing:
            if news:
                yield news
                after = news[-1].id
                if news[-1].type is EventType.FINISHED:
                    return
            if watcher.ended and over is None:
                over = await api.services.database.aread(lambda connection: jobs.find(connection, row.id))
                if over is None:
                    return  # it was deleted
                over_at = clock() + _last_words(over)
            if over is not None and clock() >= over_at:
                yield [_end(over)]
                return
            if over is not None:
                await watcher.ring.wait(over_at - clock())
            elif not await _wait(api, row.id, watcher, has_news=bool(news)):
                yield []
            heard = watcher.ring.take()
            news = (heard and follow_on(heard, parse_position(after))) or await _read(api, row.id, after)


async def _wait(api: Api, job_id: str, watcher: Watcher, *, has_news: bool) -> bool:
    """Wait for the next ring; one that brought nothing may mean that the row has changed without the log."""
    if not has_news:
        api.watch.ask(job_id)
    return await watcher.ring.wait(HEARTBEAT_SECONDS)


async def _read(api: Api, job_id: str, after: str | None) -> list[Envelope]:
    try:
        return await api.services.events.read(job_id, after)
    except FaultError:
        return []  # the row still tells the end of the story


def _last_words(row: JobRow) -> float:
    """Return how much longer a log may still get the last entries of a job that has ended."""
    if row.finished_at is None or row.attempt == 0:
        return 0.0
    return max(0.0, row.finished_at + LAST_WORDS_SECONDS - time.time())


def _end(row: JobRow) -> Envelope:
    """Return the last event as the row has it."""
    data = {"status": row.status, "error": from_json(row.error) if row.error else None}
    return Envelope(row.attempt, END_SEQ, EventType.FINISHED, row.finished_at or time.time(), data)


def frame(envelope: Envelope) -> bytes:
    """Return an event as it goes over the wire."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (envelope.id.encode(), envelope.type.encode(), envelope.to_json())
