"""Hints: the messages on the broker's lists that say "this queue has work".

The row is the truth, so a hint may be lost, doubled or late. A list never grows beyond its width: the newest go first.
Each is the message that Celery's Redis transport would have pushed, rendered from a template at a fifth of the cost.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio.client import Pipeline as AsyncPipeline
from redis.client import Pipeline

from schemas.base import JsonObject
from schemas.errors import RedisFaultError
from storage.redis import AsyncRedis, SyncRedis, redis_deadline, redis_faults

SICK_SECONDS = 1.0
"""How long hints are dropped unsent after Redis failed once."""
PAUSE_SECONDS = 0.005
"""How long those wait that come while others have just been sent: a round trip costs more than many messages."""


WIDTH_PER_SLOT = 2
"""How wide a queue's list is for each job that its workers can run at once."""


class HintTemplate:
    """The message of one task on one queue; its first argument is the queue."""

    _ID = "00000000-0000-0000-0000-000000000000"

    def __init__(self, task: str, queue: str, args: Sequence[Any] = ()) -> None:
        self._text = json.dumps(_message(task, queue, [queue, *args], self._ID))

    def render(self) -> str:
        """Return a message with an id of its own."""
        return self._text.replace(self._ID, str(uuid.uuid4()))


def _message(task: str, queue: str, args: list[Any], task_id: str) -> JsonObject:
    """Lay out Celery's protocol 2 in kombu's envelope for Redis."""
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return {
        "body": base64.b64encode(json.dumps([args, {}, embedded]).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": task_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": task_id,
            "parent_id": None,
            "argsrepr": repr(tuple(args)),
            "kwargsrepr": "{}",
            "origin": f"{os.getpid()}@{socket.gethostname()}",
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        "properties": {
            "correlation_id": task_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": task_id,
        },
    }


class _Templates:
    """The templates of one task, made when first needed: as many as there are queues and flags."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._made: dict[tuple[str, str], HintTemplate] = {}

    def render(self, queue: str, args: Sequence[Any]) -> str:
        key = (queue, json.dumps(args) if args else "")
        if key not in self._made:
            self._made[key] = HintTemplate(self._task, queue, args)
        return self._made[key].render()


def _push(
    pipeline: Pipeline | AsyncPipeline, queue: str, messages: Iterable[str], width: int, *, ahead: bool = False
) -> None:
    (pipeline.rpush if ahead else pipeline.lpush)(queue, *messages)
    pipeline.ltrim(queue, -width, -1)  # workers take from the right: the oldest stay


class Hints:
    """Hints from threads."""

    def __init__(self, client: SyncRedis, task: str) -> None:
        self._client = client
        self._templates = _Templates(task)

    def send(self, queue: str, *, width: int, count: int = 1, args: Sequence[Any] = (), ahead: bool = False) -> None:
        """Push hints whose arguments are the queue and `args`, in one round trip; keep at most `width`.

        Those that go `ahead` are the next to be taken, and a full list drops others for them.
        """
        messages = [self._templates.render(queue, args) for _ in range(min(count, width))]
        if messages:
            with redis_faults(), self._client.pipeline(transaction=False) as pipeline:
                _push(pipeline, queue, messages, width, ahead=ahead)
                pipeline.execute()

    def depths(self, queues: Sequence[str]) -> dict[str, int]:
        """Return how many hints wait on each queue."""
        with redis_faults(), self._client.pipeline(transaction=False) as pipeline:
            for queue in queues:
                pipeline.llen(queue)
            return dict(zip(queues, pipeline.execute(), strict=True))


@dataclass(slots=True)
class _Waiting:
    width: int
    messages: list[str] = field(default_factory=list)
    count: int = 0

    def needs_more(self) -> bool:
        """Count one who wants the queue looked at; a worker that looks takes as many jobs as it has slots."""
        self.count += 1
        slots = max(1, self.width // WIDTH_PER_SLOT)
        return len(self.messages) < min(self.width, -(-self.count // slots))  # Redis would trim what is too wide


class AsyncHints:
    """Hints from one event loop, at no risk to the caller: they are sent behind its back or dropped."""

    def __init__(self, client: AsyncRedis, task: str) -> None:
        self._client = client
        self._templates = _Templates(task)
        self._waiting: dict[str, _Waiting] = {}
        self._sending: asyncio.Task[None] | None = None
        self._sick_until = 0.0
        self.dropped = 0
        """How many hints were not sent because Redis was sick; the reconciler sends them again."""

    def send(self, queue: str, *, width: int) -> None:
        """Have a hint sent soon, together with all others of this moment; return at once, whatever Redis does.

        Of one moment there are only as many as workers are needed.
        """
        loop = asyncio.get_running_loop()
        if loop.time() < self._sick_until:
            self.dropped += 1
            return
        waiting = self._waiting.setdefault(queue, _Waiting(width))
        if waiting.needs_more():
            waiting.messages.append(self._templates.render(queue, ()))
        if self._sending is None or self._sending.done():
            self._sending = loop.create_task(self._send_waiting())

    async def depths(self, queues: Sequence[str]) -> dict[str, int]:
        """Return how many hints wait on each queue."""
        async with redis_deadline(), self._client.pipeline(transaction=False) as pipeline:
            for queue in queues:
                pipeline.llen(queue)
            return dict(zip(queues, await pipeline.execute(), strict=True))

    async def flush(self) -> None:
        """Wait until what was handed over is sent or dropped."""
        if self._sending is not None:
            await asyncio.wait([self._sending])

    async def _send_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, {}
            try:
                await self._push(batch)
            except RedisFaultError:
                self._sick_until = asyncio.get_running_loop().time() + SICK_SECONDS
                self.dropped += sum(len(waiting.messages) for waiting in (*batch.values(), *self._waiting.values()))
                self._waiting = {}
            await asyncio.sleep(PAUSE_SECONDS)

    async def _push(self, batch: dict[str, _Waiting]) -> None:
        async with redis_deadline(), self._client.pipeline(transaction=False) as pipeline:
            for queue, waiting in batch.items():
                _push(pipeline, queue, waiting.messages, waiting.width)
            await pipeline.execute()
