"""One Redis connection that listens to many channels, changes them cheaply and mends itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError

from storage.redis import AsyncRedis, redis_deadline

# redis-py treats a connection without any channel as an ordinary one; ours always has this.
ANCHOR = "stoker:anchor"
PING_SECONDS = 4.0
SILENCE_SECONDS = 12.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Subscription:
    """A changing set of channels on one connection of one event loop.

    `heard` gets each message; `confirmed` gets each channel that Redis has begun to listen to for us, also after a
    reconnect: what was published before that moment is lost.
    """

    def __init__(
        self, client: AsyncRedis, heard: Callable[[str, bytes], None], confirmed: Callable[[str], None]
    ) -> None:
        self._client = client
        self._heard = heard
        self._confirmed = confirmed
        self._wanted: set[str] = set()
        self._hearing: set[str] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._heard_at = 0.0
        self._pause = FIRST_PAUSE_SECONDS

    def hears(self, channel: str) -> bool:
        """Say whether nothing is missed of a channel now."""
        return channel in self._hearing

    def add(self, channel: str) -> None:
        """Listen to a channel from soon on; the first one opens the connection."""
        self._wanted.add(channel)
        self._changed.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def discard(self, channel: str) -> None:
        """Stop listening to a channel."""
        self._wanted.discard(channel)
        self._changed.set()

    async def aclose(self) -> None:
        """Close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            try:
                await self._converse()
            except* Exception as errors:  # noqa: BLE001 - listeners poll meanwhile, and nobody else would try again
                if self._pause == FIRST_PAUSE_SECONDS:
                    _log.warning("Lost the Redis subscription, trying again until it is back: %r", errors.exceptions)
            self._hearing.clear()
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)

    async def _converse(self) -> None:
        async with self._client.pubsub() as pubsub:
            async with redis_deadline():
                await pubsub.subscribe(ANCHOR)
            self._heard_at = asyncio.get_running_loop().time()
            async with asyncio.TaskGroup() as both:
                both.create_task(self._hear(pubsub))
                both.create_task(self._tell(pubsub))

    async def _hear(self, pubsub: PubSub) -> None:
        async for message in pubsub.listen():
            self._heard_at = asyncio.get_running_loop().time()
            self._pause = FIRST_PAUSE_SECONDS
            if message["type"] == "message":
                self._heard(message["channel"].decode(), message["data"])
            elif message["type"] == "subscribe":
                channel = message["channel"].decode()
                self._hearing.add(channel)
                self._confirmed(channel)

    async def _tell(self, pubsub: PubSub) -> None:
        """Send what changed since the last time in one go; ping when nothing did, to notice a dead connection."""
        told: frozenset[str] = frozenset()
        while True:
            self._changed.clear()
            wanted = frozenset(self._wanted)
            if new := wanted - told:
                await pubsub.subscribe(*new)
            if old := told - wanted:
                self._hearing -= old
                await pubsub.unsubscribe(*old)
            told = wanted
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                await pubsub.ping()
            if asyncio.get_running_loop().time() - self._heard_at > SILENCE_SECONDS:
                raise RedisConnectionError(f"nothing was heard for {SILENCE_SECONDS} s")
