"""One Redis connection that listens to many channels, changes them cheaply and mends itself.

It reads what Redis says itself: redis-py's way to a message takes several times what is done with it, and there is
one for each piece of a stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from redis.asyncio.connection import AbstractConnection as Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

from storage.redis import AsyncRedis, redis_deadline

ANCHOR = "stoker:anchor"
"""The channel that is never given up: without any, Redis would answer a ping in another way."""
PING_SECONDS = 4.0
SILENCE_SECONDS = 12.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
READ_BYTES = 64 * 1024
ARRAY, STRING, LINE_END = b"*", b"$", b"\r\n"
Message = tuple[bytes, bytes, bytes]

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
        pool = self._client.connection_pool
        async with redis_deadline():
            connection: Connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # its decorator is untyped
        try:
            await _say(connection, "SUBSCRIBE", ANCHOR)
            self._heard_at = asyncio.get_running_loop().time()
            async with asyncio.TaskGroup() as both:
                both.create_task(self._hear(connection))
                both.create_task(self._tell(connection))
        finally:
            await connection.disconnect(nowait=True)  # it has channels, so nobody else can use it
            await pool.release(connection)

    async def _hear(self, connection: Connection) -> None:
        reader, heard = connection._reader, b""  # noqa: SLF001 - redis-py has no door for those who read themselves
        while reader is not None and (data := await reader.read(READ_BYTES)):
            messages, heard = split_messages(heard + data)
            self._heard_at = asyncio.get_running_loop().time()
            self._pause = FIRST_PAUSE_SECONDS
            for kind, channel, content in messages:
                self._take(kind, channel.decode(), content)
        raise RedisConnectionError("Redis closed the connection")

    def _take(self, kind: bytes, channel: str, content: bytes) -> None:
        if kind == b"message":
            self._heard(channel, content)
        elif kind == b"subscribe":
            self._hearing.add(channel)
            self._confirmed(channel)
        elif kind == b"unsubscribe":  # it was given up before Redis confirmed it
            self._hearing.discard(channel)

    async def _tell(self, connection: Connection) -> None:
        """Send what changed since the last time in one go; ping when nothing did, to notice a dead connection."""
        told: frozenset[str] = frozenset()
        while True:
            self._changed.clear()
            wanted = frozenset(self._wanted)
            if new := wanted - told:
                await _say(connection, "SUBSCRIBE", *new)
            if old := told - wanted:
                self._hearing -= old
                await _say(connection, "UNSUBSCRIBE", *old)
            told = wanted
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                await _say(connection, "PING")
            if asyncio.get_running_loop().time() - self._heard_at > SILENCE_SECONDS:
                raise RedisConnectionError(f"nothing was heard for {SILENCE_SECONDS} s")


async def _say(connection: Connection, *words: str) -> None:
    await connection.send_packed_command(connection.pack_command(*words), check_health=False)


def split_messages(heard: bytes) -> tuple[list[Message], bytes]:
    """Read as many messages as are whole: what each is, its channel, its content; and return the rest."""
    messages: list[Message] = []
    at = 0
    while at < len(heard):
        if heard[at : at + 1] != ARRAY:
            raise InvalidResponse(f"Redis said {heard[at : at + 100]!r} where a message should be")
        words, end = _read_words(heard, at)
        if words is None:
            break
        kind, channel, content = (*words, b"")[:3]  # the answer to a ping is shorter
        messages.append((kind, channel, content))
        at = end
    return messages, heard[at:]


def _read_words(heard: bytes, at: int) -> tuple[list[bytes] | None, int]:
    """Read an array of strings and numbers; nothing while some of it is still to come."""
    line_end = heard.find(LINE_END, at)
    if line_end < 0:
        return None, at
    count, at, words = int(heard[at + 1 : line_end]), line_end + 2, list[bytes]()
    for _ in range(count):
        line_end = heard.find(LINE_END, at)
        if line_end < 0:
            return None, at
        said, begin = heard[at + 1 : line_end], line_end + 2
        if heard[at : at + 1] == STRING:
            at = begin + int(said) + 2
            if at > len(heard):
                return None, at
            said = heard[begin : at - 2]
        else:
            at = begin
        words.append(said)
    return words, at
