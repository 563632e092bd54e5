"""Batches from Python: `stoker.batches`, blocking and asynchronous; what both do is in `stoker.client.batch_api`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar, Unpack

import httpx

from stoker.client.batch_api import (
    PAGE_BATCHES,
    BatchApi,
    BatchOptions,
    BatchRef,
    Fetching,
    Vigil,
    batch_request,
)
from stoker.client.documents import Batch
from stoker.client.errors import StokerError
from stoker.client.exchange import Call, Flow

T = TypeVar("T")
PART = ".part"

Watcher = Callable[[Batch], None]
"""Is told what a batch was at each look."""


class Run(Protocol):
    """Runs a flow."""

    def __call__(self, flow: Flow[T]) -> T:
        """Return what the flow returns."""


class AsyncRun(Protocol):
    """Runs a flow."""

    def __call__(self, flow: Flow[T]) -> Awaitable[T]:
        """Return what the flow returns."""


@contextmanager
def _arriving(path: Path) -> Iterator[BinaryIO]:
    """Give a file that takes its place when it is whole; only pipes and devices are written to as the bytes come."""
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    whole = path.resolve()  # a link stays one
    part = whole.with_name(whole.name + PART)
    try:
        with part.open("wb") as file:
            yield file
        part.replace(whole)
    finally:
        part.unlink(missing_ok=True)


def _begin_anew(file: BinaryIO) -> None:
    if not file.seekable():
        raise StokerError("The answers broke off, and a pipe takes nothing back; save them to a file.")
    file.seek(0)
    file.truncate()


class Batches:
    """What can be done with batches."""

    def __init__(self, api: BatchApi, run: Run, open_stream: Callable[[Call], httpx.Response]) -> None:
        self._api = api
        self._run = run
        self._open = open_stream

    def submit(
        self,
        lines: Path | str | Sequence[Mapping[str, Any]],
        *,
        endpoint: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[BatchOptions],
    ) -> Batch:
        """Make a batch of a file of requests, which is uploaded, or of inputs `{custom_id?, kind, model, input}`."""
        request = batch_request(lines, endpoint, options)
        if isinstance(lines, Path | str):
            request["input_file_id"] = self.upload(Path(lines))
        return self._run(self._api.create(request, idempotency_key))

    def upload(self, file: Path) -> str:
        """Upload a file of requests; its id."""
        return self._run(self._api.upload(file))

    def get(self, batch: BatchRef) -> Batch:
        """Look at a batch."""
        return self._run(self._api.look(batch))

    def list(self, limit: int | None = None) -> Iterator[Batch]:
        """Yield batches, newest first, page by page: all of them, or `limit` at most."""
        after, left = None, limit
        while left is None or left > 0:
            size = PAGE_BATCHES if left is None else min(PAGE_BATCHES, left)
            page, after = self._run(self._api.list_page(after, size))
            yield from page
            left = None if left is None else left - len(page)
            if after is None:
                return

    def wait(
        self, batch: BatchRef, timeout_seconds: float | None = None, *, on_look: Watcher = lambda _: None
    ) -> Batch:
        """Return the batch when it has ended, however it did; BatchTimeoutError when it has not in time."""
        vigil = Vigil(timeout_seconds)
        while True:
            seen = self.get(batch)
            on_look(seen)
            if seen.has_ended:
                return seen
            time.sleep(vigil.pause(seen))  # the API tells nobody of a batch's end who does not look

    def cancel(self, batch: BatchRef) -> Batch:
        """Cancel a batch; harmless when it has ended."""
        return self._run(self._api.steer(batch, "cancel"))

    def pause(self, batch: BatchRef) -> Batch:
        """Let no more lines begin; its completion window goes on."""
        return self._run(self._api.steer(batch, "pause"))

    def resume(self, batch: BatchRef) -> Batch:
        """Let lines begin again."""
        return self._run(self._api.steer(batch, "resume"))

    def save(self, batch: BatchRef, path: Path, *, errors: bool = False) -> int:
        """Write the answers so far to a file, in the order of the input, or the lines that failed; how many bytes."""
        fetching = Fetching(self._api, batch, "errors" if errors else "output")
        with _arriving(path) as file:
            while (size := self._fetch(fetching, file)) is None:
                _begin_anew(file)
        return size

    def _fetch(self, fetching: Fetching, file: BinaryIO) -> int | None:
        answer: httpx.Response | None = None
        try:
            answer = self._open(fetching.call)
            if answer.status_code != httpx.codes.OK:
                answer.read()
            if not fetching.is_open(answer):
                return None
            size = sum(file.write(piece) for piece in answer.iter_bytes())
        except httpx.TransportError as error:
            fetching.broke(error)
            return None
        finally:
            if answer is not None:
                answer.close()
        return size


class AsyncBatches:
    """The same, with `await` and `async for`."""

    def __init__(self, api: BatchApi, run: AsyncRun, open_stream: Callable[[Call], Awaitable[httpx.Response]]) -> None:
        self._api = api
        self._run = run
        self._open = open_stream

    async def submit(
        self,
        lines: Path | str | Sequence[Mapping[str, Any]],
        *,
        endpoint: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[BatchOptions],
    ) -> Batch:
        """Make a batch of a file of requests, which is uploaded, or of inputs `{custom_id?, kind, model, input}`."""
        request = batch_request(lines, endpoint, options)
        if isinstance(lines, Path | str):
            request["input_file_id"] = await self.upload(Path(lines))
        return await self._run(self._api.create(request, idempotency_key))

    async def upload(self, file: Path) -> str:
        """Upload a file of requests; its id."""
        return await self._run(self._api.upload(file))

    async def get(self, batch: BatchRef) -> Batch:
        """Look at a batch."""
        return await self._run(self._api.look(batch))

    async def list(self, limit: int | None = None) -> AsyncIterator[Batch]:
        """Yield batches, newest first, page by page: all of them, or `limit` at most."""
        after, left = None, limit
        while left is None or left > 0:
            size = PAGE_BATCHES if left is None else min(PAGE_BATCHES, left)
            page, after = await self._run(self._api.list_page(after, size))
            for batch in page:
                yield batch
            left = None if left is None else left - len(page)
            if after is None:
                return

    async def wait(
        self, batch: BatchRef, timeout_seconds: float | None = None, *, on_look: Watcher = lambda _: None
    ) -> Batch:
        """Return the batch when it has ended, however it did; BatchTimeoutError when it has not in time."""
        vigil = Vigil(timeout_seconds)
        while True:
            seen = await self.get(batch)
            on_look(seen)
            if seen.has_ended:
                return seen
            await asyncio.sleep(vigil.pause(seen))

    async def cancel(self, batch: BatchRef) -> Batch:
        """Cancel a batch; harmless when it has ended."""
        return await self._run(self._api.steer(batch, "cancel"))

    async def pause(self, batch: BatchRef) -> Batch:
        """Let no more lines begin; its completion window goes on."""
        return await self._run(self._api.steer(batch, "pause"))

    async def resume(self, batch: BatchRef) -> Batch:
        """Let lines begin again."""
        return await self._run(self._api.steer(batch, "resume"))

    async def save(self, batch: BatchRef, path: Path, *, errors: bool = False) -> int:
        """Write the answers so far to a file, in the order of the input, or the lines that failed; how many bytes."""
        fetching = Fetching(self._api, batch, "errors" if errors else "output")
        with _arriving(path) as file:
            while (size := await self._fetch(fetching, file)) is None:
                _begin_anew(file)
        return size

    async def _fetch(self, fetching: Fetching, file: BinaryIO) -> int | None:
        answer: httpx.Response | None = None
        try:
            answer = await self._open(fetching.call)
            if answer.status_code != httpx.codes.OK:
                await answer.aread()
            if not fetching.is_open(answer):
                return None
            size = 0
            async for piece in answer.aiter_bytes():
                size += file.write(piece)
        except httpx.TransportError as error:
            fetching.broke(error)
            return None
        finally:
            if answer is not None:
                await answer.aclose()
        return size
