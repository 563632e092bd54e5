"""Inputs: the chunks that lines lie in, each read once for the neighbours that run together."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from storage.objects.port import ObjectStore, chunk_key
from tasks.adapter_names import Meanings
from tasks.batches.adapters import read_meanings
from tasks.patience import insist

KEPT_CHUNKS = 8
KEPT_MEANINGS = 64

Result = TypeVar("Result")


class Inputs:
    """The chunks that were needed last. It lives in the engine's loop."""

    def __init__(self, objects: ObjectStore, threads: ThreadPoolExecutor) -> None:
        self._objects = objects
        self._threads = threads
        self._chunks: OrderedDict[str, asyncio.Future[list[bytes]]] = OrderedDict()
        self._meanings: OrderedDict[str, Meanings] = OrderedDict()

    async def read(self, batch_id: str, chunk: int, place: int) -> bytes:
        """Return a line; whoever asks for its chunk at the same time shares one reading."""
        key = chunk_key(batch_id, chunk)
        reading = self._chunks.get(key)
        if reading is None:
            reading = self._chunks[key] = asyncio.ensure_future(self._fetch(key))
            reading.add_done_callback(lambda done: self._forget_failed(key, done))
            if len(self._chunks) > KEPT_CHUNKS:
                self._chunks.popitem(last=False)  # who waits for it goes on waiting
        lines = reading.result() if reading.done() else await asyncio.shield(reading)
        return lines[place]

    async def meanings(self, batch_id: str) -> Meanings:
        """Return what the lines of a batch mean by the names of adapters."""
        if batch_id not in self._meanings:
            loop = asyncio.get_running_loop()
            read = await insist(lambda: _awaitable(loop, self._threads, read_meanings, self._objects, batch_id))
            self._meanings[batch_id] = read
            if len(self._meanings) > KEPT_MEANINGS:
                self._meanings.popitem(last=False)
        return self._meanings[batch_id]

    async def _fetch(self, key: str) -> list[bytes]:
        loop = asyncio.get_running_loop()
        content = await insist(lambda: _awaitable(loop, self._threads, self._objects.get, key))
        return content.split(b"\n")

    def _forget_failed(self, key: str, done: asyncio.Future[list[bytes]]) -> None:
        if (done.cancelled() or done.exception() is not None) and self._chunks.get(key) is done:
            del self._chunks[key]


async def _awaitable(
    loop: asyncio.AbstractEventLoop, threads: ThreadPoolExecutor, work: Callable[..., Result], *given: Any
) -> Result:
    return await loop.run_in_executor(threads, work, *given)
