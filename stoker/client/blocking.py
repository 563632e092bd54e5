"""The blocking client. `stoker.client.asynchronous` is its twin; what both do is in `stoker.client.api`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack

import httpx

from stoker.client.api import PAGE_JOBS, PATIENCE_SECONDS, Api, JobFilter, JobRef, job_request
from stoker.client.batch_api import BatchApi
from stoker.client.batches import Batches
from stoker.client.connection import choose_address, form_of, http_options, request_of
from stoker.client.documents import Artifact, Drain, Event, Job, Key, Model, Queue, Worker
from stoker.client.exchange import Call, Flow
from stoker.client.loras import LoraApi, Loras

T = TypeVar("T")


class Stoker:
    """A connection to Stoker's API, for `with Stoker() as stoker:`.

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
        self.batches = Batches(BatchApi(address.url, patience_seconds), self._run, self._open)
        self.loras = Loras(LoraApi(address.url, patience_seconds), self._run)
        self._http = httpx.Client(**http_options(address.url))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
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
        return self._run(self._api.submit(request, idempotency_key))

    def get(self, job: JobRef) -> Job:
        """Look at a job."""
        return self._run(self._api.get(job))

    def wait(self, job: JobRef, timeout_seconds: float | None = None) -> Job:
        """Return the job when it has ended, however it did; WaitTimeoutError when it has not in time."""
        return self._run(self._api.wait(job, timeout_seconds))

    def events(self, job: JobRef, after: str | None = None) -> Iterator[Event]:
        """Yield the job's events, from the start or after the one with that id, until it ends.

        A broken connection is made again and goes on where it broke. After `restarted`, forget what came before
        (stoker.Transcript does).
        """
        feed = self._api.feed(job, after)
        while not feed.is_over:
            call = feed.next_call()
            time.sleep(call.pause_seconds)
            answer: httpx.Response | None = None
            try:
                answer = self._http.send(request_of(self._http, call, self._api_key), stream=True)
                if answer.status_code != httpx.codes.OK:
                    answer.read()
                if not feed.is_open(answer):
                    continue
                for chunk in answer.iter_bytes():
                    yield from feed.read(chunk)
                if not feed.is_over:
                    feed.broke()
            except httpx.TransportError as error:
                feed.broke(error)
            finally:
                if answer is not None:
                    answer.close()

    def result(self, job: JobRef, *, artifact: str | None = None, timeout_seconds: float | None = None) -> bytes:
        """Wait for the job's end and return the bytes that it produced; `artifact` names one of several."""
        return self._run(self._api.result(job, artifact, timeout_seconds))

    def download(self, artifact: Artifact) -> bytes:
        """Return an artifact's bytes, checked against its sha256."""
        return self._run(self._api.download(artifact))

    def cancel(self, job: JobRef) -> Job:
        """Cancel a job; harmless when it has ended."""
        return self._run(self._api.cancel(job))

    def retry(self, job: JobRef, *, idempotency_key: str | None = None) -> Job:
        """Make a new job from one that has ended, with the same input."""
        return self._run(self._api.retry(job, idempotency_key))

    def delete(self, job: JobRef) -> None:
        """Erase a job that has ended: input, output, bytes and events."""
        self._run(self._api.delete(job))

    def jobs(self, limit: int | None = None, **wanted: Unpack[JobFilter]) -> Iterator[Job]:
        """Yield jobs, newest first, page by page: all of them, or `limit` at most."""
        after, left = None, limit
        while left is None or left > 0:
            size = PAGE_JOBS if left is None else min(PAGE_JOBS, left)
            page, after = self._run(self._api.page(wanted, after, size))
            yield from page
            left = None if left is None else left - len(page)
            if after is None:
                return

    def models(self) -> list[Model]:
        """List the catalog's models."""
        return self._run(self._api.models())

    def model(self, alias: str) -> Model:
        """Look at one model."""
        return self._run(self._api.model(alias))

    def queues(self) -> list[Queue]:
        """List the queues."""
        return self._run(self._api.queues())

    def pause_queue(self, name: str) -> Queue:
        """Stop taking jobs from a queue; what runs goes on."""
        return self._run(self._api.steer_queue(name, "pause"))

    def resume_queue(self, name: str) -> Queue:
        """Take jobs from a paused queue again."""
        return self._run(self._api.steer_queue(name, "resume"))

    def purge_queue(self, name: str) -> int:
        """Cancel every job that waits in a queue, whoever submitted it; how many that were."""
        return self._run(self._api.purge_queue(name))

    def drain_queue(self, name: str) -> Drain:
        """Pause a queue and move what waits in it to another placement of its model."""
        return self._run(self._api.drain_queue(name))

    def workers(self) -> list[Worker]:
        """List the living workers."""
        return self._run(self._api.workers())

    def drain_worker(self, worker_id: str) -> None:
        """Ask a worker to finish what it holds and stop."""
        self._run(self._api.drain_worker(worker_id))

    def keys(self, caller: str | None = None) -> list[Key]:
        """List the keys of your caller, or as an admin of another one; `*` for all."""
        return self._run(self._api.keys(caller))

    def create_key(
        self, name: str, scopes: Sequence[str], *, expires_in_days: float | None = None, caller: str | None = None
    ) -> Key:
        """Make a key; its secret is in the answer's `key` and never again."""
        return self._run(self._api.create_key(name, scopes, expires_in_days, caller))

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key; within five seconds it opens nothing."""
        self._run(self._api.revoke_key(key_id))

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, params: Mapping[str, str] | None = None
    ) -> Any:
        """Ask the API for what has no method of its own, such as `call("GET", "/v1/webhooks/endpoints")`."""
        return self._run(self._api.call(method, path, body, params or {}))

    def _run(self, flow: Flow[T]) -> T:
        try:
            call = next(flow)
            while True:
                try:
                    answer = self._send(call)
                except httpx.TransportError as error:
                    call = flow.throw(error)
                else:
                    call = flow.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value

    def _send(self, call: Call) -> httpx.Response:
        time.sleep(call.pause_seconds)  # the service asked for it, and this client blocks
        with form_of(call) as form:
            return self._http.send(request_of(self._http, call, self._api_key, form))

    def _open(self, call: Call) -> httpx.Response:
        time.sleep(call.pause_seconds)
        return self._http.send(request_of(self._http, call, self._api_key), stream=True)
