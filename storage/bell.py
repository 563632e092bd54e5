"""The bell of a job: rung when its row or its events changed, heard by whoever waits for it.

A bell carries no news, it says "look again". It may ring once too often, and not at all when Redis is sick: a waiter
listens, looks, waits a bounded time and looks again either way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from storage.redis import AsyncRedis, SyncRedis, redis_deadline, redis_faults
from storage.subscription import Subscription


def bell_channel(job_id: str) -> str:
    """Return the Redis channel of a job's bell."""
    return f"stoker:job:{job_id}"


class Ring:
    """What one waiter hears of one job."""

    __slots__ = ("_struck",)

    def __init__(self) -> None:
        self._struck = asyncio.Event()

    def strike(self) -> None:
        """Let the waiter look again."""
        self._struck.set()

    async def wait(self, seconds: float) -> bool:
        """Return True once it has rung since the last wait, False when it did not ring in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._struck.wait()
        except TimeoutError:
            return False
        self._struck.clear()
        return True


class Bell(Protocol):
    """The bells of all jobs, as one event loop sees them."""

    def listen(self, job_id: str) -> AbstractAsyncContextManager[Ring]:
        """Hear one job's bell; look at the job only after this began, or a ring may be missed."""
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
    async def listen(self, job_id: str) -> AsyncIterator[Ring]:
        """Hear one job's bell."""
        ring = Ring()
        channel = bell_channel(job_id)
        self._enter(channel, ring)
        try:
            yield ring
        finally:
            self._leave(channel, ring)

    async def ring(self, job_ids: Sequence[str]) -> None:
        """Ring the bells of these jobs."""
        for job_id in job_ids:
            self._strike(bell_channel(job_id))

    async def aclose(self) -> None:
        """Nothing to close."""

    def _enter(self, channel: str, ring: Ring) -> None:
        self._rings.setdefault(channel, set()).add(ring)

    def _leave(self, channel: str, ring: Ring) -> None:
        self._rings[channel].discard(ring)
        if not self._rings[channel]:
            del self._rings[channel]

    def _strike(self, channel: str) -> None:
        for ring in self._rings.get(channel, ()):
            ring.strike()


class RedisBell(MemoryBell):
    """Bells between processes: one connection, whatever the number of waiters.

    A waiter is also rung when Redis confirms the subscription, first or anew: something may have happened before.
    """

    def __init__(self, client: AsyncRedis) -> None:
        super().__init__()
        self._client = client
        self._subscription = Subscription(client, lambda channel, _: self._strike(channel), self._strike)

    async def ring(self, job_ids: Sequence[str]) -> None:
        """Ring the bells of these jobs in every process, in one round trip."""
        async with redis_deadline(), self._client.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.publish(bell_channel(job_id), b"")
            await pipeline.execute()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._subscription.aclose()

    def _enter(self, channel: str, ring: Ring) -> None:
        if channel not in self._rings:
            self._subscription.add(channel)
        super()._enter(channel, ring)

    def _leave(self, channel: str, ring: Ring) -> None:
        super()._leave(channel, ring)
        if channel not in self._rings:
            self._subscription.discard(channel)


class Ringer:
    """The bell's rope for code without an event loop."""

    def __init__(self, client: SyncRedis) -> None:
        self._client = client

    def ring(self, job_ids: Sequence[str]) -> None:
        """Ring the bells of these jobs in every process, in one round trip."""
        with redis_faults(), self._client.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.publish(bell_channel(job_id), b"")
            pipeline.execute()
