"""Event logs as Redis Streams, whose entry ids are our ids on the wire.

Redis refuses an id that is not above the newest one of its stream. That refusal is the fence against stale attempts
and makes appending twice harmless, and a reader's position is a range that Redis understands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from schemas.errors import RedisFaultError
from schemas.events import Envelope, EventType
from storage.bell import bell_channel, news_channel, render_news, tells_end
from storage.event_log.port import (
    ENTRIES_KEPT,
    LATEST_SECONDS,
    LATEST_TYPES,
    Appended,
    Batch,
    begins_log,
    keep_seconds,
    parse_position,
    resume,
)
from storage.redis import AsyncRedis, redis_deadline

_FIELD = b"e"
_REFUSAL = "equal or smaller than the target stream top item"


class RedisEventLog:
    """One stream per job; each append rings the job's bell."""

    def __init__(self, client: AsyncRedis) -> None:
        self._client = client

    async def append(self, job_id: str, envelopes: Sequence[Envelope]) -> None:
        """Append a job's next events."""
        await self.append_many([(job_id, envelopes)])

    async def append_many(self, batches: Sequence[Batch]) -> Appended:
        """Append the next events of many jobs in one round trip; a failure may have stored some of them."""
        ends: list[int] = []  # where the answers of each batch end; the last one counts who heard of it
        async with redis_deadline(), self._client.pipeline(transaction=False) as pipeline:
            for job_id, envelopes in batches:
                _append(pipeline, job_id, envelopes)
                ends.append(len(pipeline))
            answers = await pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and not _is_refusal(answer):
                raise RedisFaultError from answer
        appended = Appended(set(), set())
        for (job_id, _), begin, end in zip(batches, [0, *ends], ends, strict=False):
            if None in answers[begin:end]:
                appended.lost.add(job_id)
            if answers[end - 1]:
                appended.followed.add(job_id)
        return appended

    async def read(self, job_id: str, after: str | None) -> list[Envelope]:
        """Return what a reader at `after` has yet to see."""
        position = parse_position(after)
        async with redis_deadline():
            entries: Any = await self._client.xrange(_stream(job_id), min=f"({position.attempt}-{position.seq}")
        return resume([Envelope.from_json(fields[_FIELD]) for _, fields in entries], position)

    async def latest(self, job_id: str, event_type: EventType) -> Envelope | None:
        """Return the current attempt's newest event of one of LATEST_TYPES."""
        async with redis_deadline(), self._client.pipeline(transaction=False) as pipeline:
            pipeline.get(_latest(job_id, event_type))
            pipeline.xrevrange(_stream(job_id), count=1)
            line, newest = await pipeline.execute()
        if line is None or not newest:
            return None
        envelope = Envelope.from_json(line)
        ((stream_id, _),) = newest
        return envelope if envelope.attempt == parse_position(stream_id.decode()).attempt else None

    async def erase(self, job_ids: Sequence[str]) -> None:
        """Forget these jobs."""
        keys = [_stream(job_id) for job_id in job_ids]
        keys += [_latest(job_id, event_type) for job_id in job_ids for event_type in LATEST_TYPES]
        if keys:
            async with redis_deadline():
                await self._client.unlink(*keys)


def _stream(job_id: str) -> str:
    return f"stoker:events:{job_id}"


def _latest(job_id: str, event_type: EventType) -> str:
    return f"stoker:latest:{job_id}:{event_type}"


def _append(pipeline: Pipeline, job_id: str, envelopes: Sequence[Envelope]) -> None:
    stream = _stream(job_id)
    newest: dict[EventType, bytes] = {}
    lines = [envelope.to_json() for envelope in envelopes]
    for envelope, line in zip(envelopes, lines, strict=True):
        pipeline.xadd(
            stream,
            {_FIELD: line},
            id=envelope.id,
            maxlen=ENTRIES_KEPT,
            approximate=False,
            nomkstream=not begins_log(envelope),
        )
        if envelope.type in LATEST_TYPES:
            newest[envelope.type] = line
    for event_type, line in newest.items():
        pipeline.set(_latest(job_id, event_type), line, ex=LATEST_SECONDS)
    if seconds := keep_seconds(envelopes):
        pipeline.expire(stream, seconds)
    if tells_end(envelopes):
        pipeline.publish(bell_channel(job_id), render_news(lines[-1:]))
    pipeline.publish(news_channel(job_id), render_news(lines))


def _is_refusal(answer: Exception) -> bool:
    return isinstance(answer, ResponseError) and _REFUSAL in str(answer)
