"""The bell of a job: rung when its row changed, heard by whoever waits for its end or follows its events.

It says "look again", and where that is short what there is to see, so that whoever has seen all before it need not
look. It may ring once too often, and not at all when Redis is sick: a waiter listens, looks, waits a bounded time and
looks again either way. All ends of this moment are one message, to each process in which anybody waits. The words on
the way there are only for those who follow the job: they have a channel per job, whose listeners are counted by those
who write.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from redis.asyncio.client import Pipeline as AsyncPipeline
from redis.client import Pipeline

from schemas.events import Envelope, EventType
from storage.redis import AsyncRedis, SyncRedis, redis_deadline, redis_faults
from storage.subscription import Subscription

NEWS_BYTES = 32 * 1024
"""What is longer is not sent along: it would be sent to every process that listens."""
NEWS_KEPT = 256
"""A waiter that is slower than this many events looks for itself."""


BELL = "stoker:bell"
"""The Redis channel of all jobs' bells."""
NEWS = "stoker:news:"
ENDED = b"!"
"""Before a job's id on that channel: it has ended, so nobody need look."""


def news_channel(job_id: str) -> str:
    """Return the Redis channel of all that is written of a job, the strokes of its bell among it."""
    return NEWS + job_id


def render_ends(job_ids: Sequence[str]) -> bytes:
    """Return what the bell says of jobs that have ended."""
    return b" ".join(ENDED + job_id.encode() for job_id in job_ids)


def render_news(lines: Sequence[bytes]) -> bytes:
    """Return what the bell says of events that were just written; nothing when that would be too long."""
    news = b"\n".join(lines)
    return news if len(news) <= NEWS_BYTES else b""


def tells_end(envelopes: Sequence[Envelope]) -> bool:
    """Say whether those who wait for the end must hear of these."""
    return bool(envelopes) and envelopes[-1].type is EventType.FINISHED


def read_news(news: bytes) -> list[Envelope] | None:
    """Read what `render_news` wrote; None stands for "look yourself"."""
    try:
        return [Envelope.from_json(line) for line in news.split(b"\n")] if news else None
    except (ValueError, TypeError, LookupError):
        return None


class Ring:
    """What one waiter hears of one job."""

    __slots__ = ("_must_look", "_news", "_struck", "has_ended")

    def __init__(self) -> None:
        self.has_ended = False
        self._struck = asyncio.Event()
        self._news: list[Envelope] = []
        self._must_look = False

    def strike(self, news: Sequence[Envelope] | None = None) -> None:
        """Let the waiter have the news, or look again."""
        if news is None or len(self._news) >= NEWS_KEPT:
            self._must_look = True
        else:
            self._news += news
        self._struck.set()

    def strike_end(self) -> None:
        """Tell the waiter that the job has ended."""
        self.has_ended = True
        self._struck.set()

    async def wait(self, seconds: float) -> bool:
        """Return True once it has rung since the last wait, False when it did not ring in time."""
        if not self._struck.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._struck.wait()
            except TimeoutError:
                return False
        self._struck.clear()
        return True

    def take(self) -> list[Envelope] | None:
        """Return what was said since the last time; None when the waiter must look for itself."""
        news, self._news = self._news, []
        must_look, self._must_look = self._must_look, False
        return None if must_look else news


class Bell(Protocol):
    """The bells of all jobs, as one event loop sees them."""

    def listen(self, job_id: str, *, to_events: bool = False) -> AbstractAsyncContextManager[Ring]:
        """Hear one job's bell, which tells of its end; and of each event before it where that is wanted.

        It rings once when listening has really begun, and only then nothing is missed.
        """
        ...

    async def ring(self, job_ids: Sequence[str]) -> None:
        """Ring the bells of these jobs in every process."""
        ...

    async def aclose(self) -> None:
        """Stop listening."""
        ...


class MemoryBell:
    """Bells within one event loop."""

    def __init__(self) -> None:
        self._rings: dict[str, set[Ring]] = {}

    @asynccontextmanager
    async def listen(self, job_id: str, *, to_events: bool = False) -> AsyncIterator[Ring]:
        """Hear one job's bell."""
        ring = Ring()
        channel = news_channel(job_id) if to_events else job_id
        self._enter(channel, ring)
        try:
            yield ring
        finally:
            self._leave(channel, ring)

    async def ring(self, job_ids: Sequence[str]) -> None:
        """Ring the bells of these jobs."""
        for job_id in job_ids:
            self._strike(job_id)
            self._strike(news_channel(job_id))

    def tell(self, job_id: str, envelopes: Sequence[Envelope]) -> bool:
        """Say what was written, and ring the bell at the end; return whether anybody follows."""
        self._hear(news_channel(job_id), render_news([envelope.to_json() for envelope in envelopes]))
        if tells_end(envelopes):
            self._hear(BELL, render_ends([job_id]))
        return news_channel(job_id) in self._rings

    async def aclose(self) -> None:
        """Nothing to close."""

    def _enter(self, channel: str, ring: Ring) -> None:
        self._rings.setdefault(channel, set()).add(ring)
        ring.strike()

    def _leave(self, channel: str, ring: Ring) -> None:
        self._rings[channel].discard(ring)
        if not self._rings[channel]:
            del self._rings[channel]

    def _hear(self, channel: str, message: bytes) -> None:
        if channel == BELL:
            for word in message.split():
                self._hear_bell(word)
        elif channel in self._rings:
            self._strike(channel, read_news(message))

    def _hear_bell(self, word: bytes) -> None:
        for ring in self._rings.get(word.removeprefix(ENDED).decode(errors="replace"), ()):
            if word.startswith(ENDED):
                ring.strike_end()
            else:
                ring.strike()

    def _strike(self, channel: str, news: Sequence[Envelope] | None = None) -> None:
        for ring in self._rings.get(channel, ()):
            ring.strike(news)


class RedisBell(MemoryBell):
    """Bells between processes: one connection, whatever the number of waiters.

    All who wait are also rung when Redis confirms a subscription anew: something may have happened before. Once
    anybody has waited here, this process hears of all ends.
    """

    def __init__(self, client: AsyncRedis) -> None:
        super().__init__()
        self._client = client
        self._subscription = Subscription(client, self._hear, self._confirm)

    async def ring(self, job_ids: Sequence[str]) -> None:
        """Ring the bells of these jobs in every process, in one round trip."""
        async with redis_deadline(), self._client.pipeline(transaction=False) as pipeline:
            _strike(pipeline, job_ids)
            await pipeline.execute()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._subscription.aclose()

    def _enter(self, channel: str, ring: Ring) -> None:
        self._rings.setdefault(channel, set()).add(ring)
        subscribed = channel if _is_news(channel) else BELL
        self._subscription.add(subscribed)
        if self._subscription.hears(subscribed):
            ring.strike()

    def _leave(self, channel: str, ring: Ring) -> None:
        super()._leave(channel, ring)
        if channel not in self._rings and _is_news(channel):
            self._subscription.discard(channel)

    def _confirm(self, subscribed: str) -> None:
        for channel in list(self._rings) if subscribed == BELL else [subscribed]:
            if (subscribed == BELL) != _is_news(channel):
                self._strike(channel)


class Ringer:
    """The bell's rope for code without an event loop."""

    def __init__(self, client: SyncRedis) -> None:
        self._client = client

    def ring(self, job_ids: Sequence[str]) -> None:
        """Ring the bells of these jobs in every process, in one round trip."""
        with redis_faults(), self._client.pipeline(transaction=False) as pipeline:
            _strike(pipeline, job_ids)
            pipeline.execute()


def _strike(pipeline: AsyncPipeline | Pipeline, job_ids: Sequence[str]) -> None:
    if job_ids:
        pipeline.publish(BELL, " ".join(job_ids))
    for job_id in job_ids:
        pipeline.publish(news_channel(job_id), b"")


def _is_news(channel: str) -> bool:
    return channel.startswith(NEWS)
