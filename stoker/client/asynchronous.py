"""The asynchronous client: the twin of `stoker.client.blocking`; what both do is in `stoker.client.api`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack

import httpx

from stoker.client.api import PAGE_JOBS, PATIENCE_SECONDS, Api, JobFilter, JobRef, job_request
from stoker.client.batch_api import BatchApi
from stoker.client.batches import AsyncBatches
from stoker.client.connection import choose_address, form_of, http_options, request_of
from stoker.client.documents import Artifact, Drain, Event, Job, Key, Model, Queue, Worker
from stoker.client.exchange import Call, Flow
from stoker.client.loras import AsyncLoras, LoraApi

T = TypeVar("T")


class AsyncStoker:
    """A connection to Stoker's API, for `async with AsyncStoker() as stoker:`.

    Without arguments the address and the key come from STOKER_URL and STOKER_API_KEY, or from the nearest
    `.stoker/client.env`. What fails for a moment is tried again for `patience_seconds`.
    """

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        address = choose_address(url, api_key)
        self.url = address.url
        self._api_key = address.api_key
        self._api = Api(address.url, patience_seconds)
        self.batches = AsyncBatches(BatchApi(address.url, patience_seconds), self._run, self._open)
        self.loras = AsyncLoras(LoraApi(address.url, patience_seconds), self._run)
        self._http = httpx.AsyncClient(**http_options(address.url))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def submit(
        self,
        kind: str,
        model: str,
        input: Mapping[str, Any],  # noqa: A002 - the word of the API
        *,
        policy: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        retention_seconds: float | None = None,
        webhook: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a job. It carries a key of its own, so that a request that is sent twice makes one job."""
        request = job_request(
            kind,
            model,
            input,
            policy=policy,
            metadata=metadata,
            retention_seconds=retention_seconds,
            webhook=webhook,
        )
        return await self._run(self._api.submit(request, idempotency_key))

    async def get(self, job: JobRef) -> Job:
        """Look at a job."""
        return await self._run(self._api.get(job))

    async def wait(self, job: JobRef, timeout_seconds: float | None = None) -> Job:
        """Return the job when it has ended, however it did; WaitTimeoutError when it has not in time."""
        return await self._run(self._api.wait(job, timeout_seconds))

    async def events(self, job: JobRef, after: str | None = None) -> AsyncIterator[Event]:
        """Yield the job's events, from the start or after the one with that id, until it ends.

        A broken connection is made again and goes on where it broke. After `restarted`, forget what came before
        (stoker.Transcript does).
        """
        feed = self._api.feed(job, after)
        while not feed.is_over:
            call = feed.next_call()
            await asyncio.sleep(call.pause_seconds)
            answer: httpx.Response | None = None
            try:
                answer = await self._http.send(request_of(self._http, call, self._api_key), stream=True)
                if answer.status_code != httpx.codes.OK:
                    await answer.aread()
                if not feed.is_open(answer):
                    continue
                async for chunk in answer.aiter_bytes():
                    for event in feed.read(chunk):
                        yield event
                if not feed.is_over:
                    feed.broke()
            except httpx.TransportError as error:
                feed.broke(error)
            finally:
                if answer is not None:
                    await answer.aclose()

    async def result(self, job: JobRef, *, artifact: str | None = None, timeout_seconds: float | None = None) -> bytes:
        """Wait for the job's end and return the bytes that it produced; `artifact` names one of several."""
        return await self._run(self._api.result(job, artifact, timeout_seconds))

    async def download(self, artifact: Artifact) -> bytes:
        """Return an artifact's bytes, checked against its sha256."""
        return await self._run(self._api.download(artifact))

    async def cancel(self, job: JobRef) -> Job:
        """Cancel a job; harmless when it has ended."""
        return await self._run(self._api.cancel(job))

    async def retry(self, job: JobRef, *, idempotency_key: str | None = None) -> Job:
        """Make a new job from one that has ended, with the same input."""
        return await self._run(self._api.retry(job, idempotency_key))

    async def delete(self, job: JobRef) -> None:
        """Erase a job that has ended: input, output, bytes and events."""
        await self._run(self._api.delete(job))

    async def jobs(self, limit: int | None = None, **wanted: Unpack[JobFilter]) -> AsyncIterator[Job]:
        """Yield jobs, newest first, page by page: all of them, or `limit` at most."""
        after, left = None, limit
        while left is None or left > 0:
            size = PAGE_JOBS if left is None else min(PAGE_JOBS, left)
            page, after = await self._run(self._api.page(wanted, after, size))
            for job in page:
                yield job
            left = None if left is None else left - len(page)
            if after is None:
                return

    async def models(self) -> list[Model]:
        """List the catalog's models."""
        return await self._run(self._api.models())

    async def model(self, alias: str) -> Model:
        """Look at one model."""
        return await self._run(self._api.model(alias))

    async def queues(self) -> list[Queue]:
        """List the queues."""
        return await self._run(self._api.queues())

    async def pause_queue(self, name: str) -> Queue:
        """Stop taking jobs from a queue; what runs goes on."""
        return await self._run(self._api.steer_queue(name, "pause"))

    async def resume_queue(self, name: str) -> Queue:
        """Take jobs from a paused queue again."""
        return await self._run(self._api.steer_queue(name, "resume"))

    async def purge_queue(self, name: str) -> int:
        """Cancel every job that waits in a queue, whoever submitted it; how many that were."""
        return await self._run(self._api.purge_queue(name))

    async def drain_queue(self, name: str) -> Drain:
        """Pause a queue and move what waits in it to another placement of its model."""
        return await self._run(self._api.drain_queue(name))

    async def workers(self) -> list[Worker]:
        """List the living workers."""
        return await self._run(self._api.workers())

    async def drain_worker(self, worker_id: str) -> None:
        """Ask a worker to finish what it holds and stop."""
        await self._run(self._api.drain_worker(worker_id))

    async def keys(self, caller: str | None = None) -> list[Key]:
        """List the keys of your caller, or as an admin of another one; `*` for all."""
        return await self._run(self._api.keys(caller))

    async def create_key(
        self, name: str, scopes: Sequence[str], *, expires_in_days: float | None = None, caller: str | None = None
    ) -> Key:
        """Make a key; its secret is in the answer's `key` and never again."""
        return await self._run(self._api.create_key(name, scopes, expires_in_days, caller))

    async def revoke_key(self, key_id: str) -> None:
        """Revoke a key; within five seconds it opens nothing."""
        await self._run(self._api.revoke_key(key_id))

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, params: Mapping[str, str] | None = None
    ) -> Any:
        """Ask the API for what has no method of its own, such as `call("GET", "/v1/webhooks/endpoints")`."""
        return await self._run(self._api.call(method, path, body, params or {}))

    async def _run(self, flow: Flow[T]) -> T:
        try:
            call = next(flow)
            while True:
                try:
                    answer = await self._send(call)
                except httpx.TransportError as error:
                    call = flow.throw(error)
                else:
                    call = flow.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value

    async def _send(self, call: Call) -> httpx.Response:
        await asyncio.sleep(call.pause_seconds)
        with form_of(call) as form:
            return await self._http.send(request_of(self._http, call, self._api_key, form))

    async def _open(self, call: Call) -> httpx.Response:
        await asyncio.sleep(call.pause_seconds)
        return await self._http.send(request_of(self._http, call, self._api_key), stream=True)
