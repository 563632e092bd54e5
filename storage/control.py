"""Best-effort messages to a worker, such as "cancel this job"; its beat brings the same news when they are lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

from schemas.base import JsonObject
from storage.redis import AsyncRedis, redis_deadline
from storage.subscription import Subscription

WAITING_MESSAGES = 1000


class Control:
    """The line to workers, and a worker's end of it."""

    def __init__(self, client: AsyncRedis) -> None:
        self._client = client

    async def send(self, worker_id: str, message: JsonObject) -> None:
        """Tell a worker something, if it hears us."""
        async with redis_deadline():
            await self._client.publish(_channel(worker_id), json.dumps(message))

    async def listen(self, worker_id: str) -> AsyncGenerator[JsonObject, None]:
        """Yield the messages to a worker, for ever, whatever Redis does; drop what is not a JSON object."""
        messages: asyncio.Queue[JsonObject] = asyncio.Queue(WAITING_MESSAGES)

        def keep(_: str, content: bytes) -> None:
            message = _parse(content)
            if message is not None and not messages.full():
                messages.put_nowait(message)

        subscription = Subscription(self._client, keep, lambda _: None)
        subscription.add(_channel(worker_id))
        try:
            while True:
                yield await messages.get()
        finally:
            await subscription.aclose()


def _channel(worker_id: str) -> str:
    return f"stoker:worker:{worker_id}"


def _parse(content: bytes) -> JsonObject | None:
    try:
        message = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
