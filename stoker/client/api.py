"""What can be asked of the API, as flows: each names its calls and reads the answers. No IO happens here."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import ceil
from typing import Any, TypedDict, TypeVar
from urllib.parse import quote

import httpx

from stoker.client.documents import Artifact, Document, Drain, Job, Key, Model, Queue, Worker
from stoker.client.errors import DamagedError, StokerError, UnreachableError, WaitTimeoutError
from stoker.client.event_feed import EventFeed
from stoker.client.exchange import ANSWER_SECONDS, Call, Flow, exchange

JobRef = Job | str
"""A job, or its id."""

PATIENCE_SECONDS = 30.0
WAIT_SECONDS = 30
PAGE_JOBS = 100
HEARTBEATS_SECONDS = 45.0
"""Three heartbeats of a stream: after so much silence the connection is dead."""
PAUSE_SECONDS = 0.5

D = TypeVar("D", bound=Document)


class JobFilter(TypedDict, total=False):
    """Which jobs a list shows."""

    status: str
    kind: str
    model: str
    queue: str
    created_after: datetime | str
    created_before: datetime | str
    metadata: Mapping[str, str]
    caller: str


class Api:
    """The calls of one API."""

    def __init__(self, url: str, patience_seconds: float) -> None:
        self.url = url
        self.patience_seconds = patience_seconds

    def submit(self, request: Mapping[str, Any], idempotency_key: str | None) -> Flow[Job]:
        """Make a job; however often this is sent, it is one."""
        headers = once(idempotency_key)
        return Job((yield from self._json(Call("POST", f"{self.url}/v1/jobs", request, headers=headers))))

    def get(self, job: JobRef) -> Flow[Job]:
        """Look at a job."""
        return Job((yield from self._json(Call("GET", self._job_url(job, "get")))))

    def wait(self, job: JobRef, timeout_seconds: float | None) -> Flow[Job]:
        """Return a job when it has ended, or raise when it has not in time."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        url, pause = self._job_url(job, "get"), 0.0
        while True:
            began = time.monotonic()
            left = WAIT_SECONDS if deadline is None else min(WAIT_SECONDS, ceil(max(0.0, deadline - began)))
            headers = {"Prefer": f"wait={left}"} if left else {}
            call = Call("GET", url, headers=headers, read_seconds=left + ANSWER_SECONDS, pause_seconds=pause)
            seen = Job((yield from self._json(call)))
            if seen.has_ended:
                return seen
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeoutError(f"{seen.id} is still {seen.status}; it goes on. Wait for it again.", seen)
            # One that answers at once, because it is about to stop, must not be asked without a pause.
            pause = PAUSE_SECONDS if time.monotonic() - began < left / 2 else 0.0

    def feed(self, job: JobRef, after: str | None) -> EventFeed:
        """Return a reader of the job's events."""
        headers = {"Accept": "text/event-stream"}
        call = Call("GET", self._job_url(job, "events"), headers=headers, read_seconds=HEARTBEATS_SECONDS)
        return EventFeed(call, after, self.patience_seconds)

    def result(self, job: JobRef, artifact: str | None, timeout_seconds: float | None) -> Flow[bytes]:
        """Wait for a job's end and return the bytes of what it produced."""
        ended = yield from self.wait(job, timeout_seconds)
        made = {one.name: one for one in ended.artifacts}
        if artifact is None and len(made) > 1:
            raise StokerError(f"{ended.id} has several artifacts: {', '.join(made)}. Name one of them.")
        if artifact is not None and made and artifact not in made:
            raise StokerError(f"{ended.id} has no artifact '{artifact}'; it has {', '.join(made)}.")
        if made:
            return (yield from self.download(made[artifact] if artifact else next(iter(made.values()))))
        return (yield from self._send(Call("GET", self._job_url(ended, "result")))).content  # or why there is none

    def download(self, artifact: Artifact) -> Flow[bytes]:
        """Return an artifact's bytes, which are those that were stored."""
        answer = yield from self._send(Call("GET", artifact.url, wants_key=False))
        if hashlib.sha256(answer.content).hexdigest() != artifact.sha256:
            raise DamagedError(f"The bytes of '{artifact.name}' are not those that were stored; download them again.")
        return answer.content

    def cancel(self, job: JobRef) -> Flow[Job]:
        """Cancel a job."""
        return Job((yield from self._json(Call("POST", self._job_url(job, "cancel")))))

    def retry(self, job: JobRef, idempotency_key: str | None) -> Flow[Job]:
        """Make a new job from one that has ended."""
        headers = once(idempotency_key)
        return Job((yield from self._json(Call("POST", self._job_url(job, "retry"), headers=headers))))

    def delete(self, job: JobRef) -> Flow[None]:
        """Erase a job that has ended."""
        yield from self._send(Call("DELETE", self._job_url(job, "get"), is_repeatable=False))

    def page(self, wanted: JobFilter, after: str | None, size: int) -> Flow[tuple[list[Job], str | None]]:
        """Return some jobs and where the next ones begin."""
        params = {**filter_params(wanted), "limit": str(size)} | ({"after": after} if after else {})
        told = yield from self._json(Call("GET", f"{self.url}/v1/jobs", params=params))
        return [Job(one) for one in told["data"]], told["next_cursor"] if told["has_more"] else None

    def models(self) -> Flow[list[Model]]:
        """List the catalog's models."""
        return (yield from self._list(Model, "models"))

    def model(self, alias: str) -> Flow[Model]:
        """Look at one model."""
        return Model((yield from self._json(Call("GET", f"{self.url}/v1/models/{quote(alias, safe='')}"))))

    def queues(self) -> Flow[list[Queue]]:
        """List the queues."""
        return (yield from self._list(Queue, "queues"))

    def steer_queue(self, name: str, verb: str) -> Flow[Queue]:
        """Pause or resume a queue."""
        return Queue((yield from self._json(Call("POST", self._queue_url(name, verb)))))

    def purge_queue(self, name: str) -> Flow[int]:
        """Cancel what waits in a queue; how many jobs that were."""
        told = yield from self._json(Call("POST", self._queue_url(name, "purge"), is_repeatable=False))
        return int(told["canceled"])

    def drain_queue(self, name: str) -> Flow[Drain]:
        """Pause a queue and move what waits in it elsewhere."""
        return Drain((yield from self._json(Call("POST", self._queue_url(name, "drain"), is_repeatable=False))))

    def workers(self) -> Flow[list[Worker]]:
        """List the living workers."""
        return (yield from self._list(Worker, "workers"))

    def drain_worker(self, worker_id: str) -> Flow[None]:
        """Ask a worker to finish what it holds and stop."""
        yield from self._json(Call("POST", f"{self.url}/v1/workers/{quote(worker_id, safe='')}/drain"))

    def keys(self, caller: str | None) -> Flow[list[Key]]:
        """List keys without their secrets."""
        return (yield from self._list(Key, "keys", {"caller": caller} if caller else {}))

    def create_key(
        self, name: str, scopes: Sequence[str], expires_in_days: float | None, caller: str | None
    ) -> Flow[Key]:
        """Make a key; only this answer has its secret."""
        wanted = {"name": name, "scopes": list(scopes), "expires_in_days": expires_in_days, "caller": caller}
        request = {field: value for field, value in wanted.items() if value is not None}
        return Key((yield from self._json(Call("POST", f"{self.url}/v1/keys", request, is_repeatable=False))))

    def revoke_key(self, key_id: str) -> Flow[None]:
        """Revoke a key."""
        yield from self._send(Call("DELETE", f"{self.url}/v1/keys/{quote(key_id, safe='')}", is_repeatable=False))

    def call(self, method: str, path: str, body: Mapping[str, Any] | None, params: Mapping[str, str]) -> Flow[Any]:
        """Ask what has no method of its own; only a GET is sent twice."""
        asked = Call(method, f"{self.url}{path}", body, params, is_repeatable=method == "GET")
        answer = yield from self._send(asked)
        return answer.json() if answer.content else None

    def _send(self, call: Call) -> Flow[httpx.Response]:
        return (yield from exchange(call, self.patience_seconds))

    def _json(self, call: Call) -> Flow[dict[str, Any]]:
        answer = yield from self._send(call)
        try:
            return dict(answer.json())
        except (ValueError, TypeError):
            raise UnreachableError(f"What answers at {self.url} is not Stoker's API; check STOKER_URL.") from None

    def _list(self, kind: type[D], noun: str, params: Mapping[str, str] | None = None) -> Flow[list[D]]:
        told = yield from self._json(Call("GET", f"{self.url}/v1/{noun}", params=params or {}))
        return [kind(one) for one in told["data"]]

    def _job_url(self, job: JobRef, what: str) -> str:
        """Return the address that the API gave for this, or for a bare id the one that it would give."""
        if isinstance(job, Job):
            return job.urls[what]
        at = f"{self.url}/v1/jobs/{quote(job, safe='')}"
        return at if what == "get" else f"{at}/{what}"

    def _queue_url(self, name: str, verb: str) -> str:
        return f"{self.url}/v1/queues/{quote(name, safe='')}/{verb}"


def job_request(
    kind: str,
    model: str,
    given: Mapping[str, Any],
    *,
    policy: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    retention_seconds: float | None = None,
    webhook: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the body that submits a job; what is not said is left to the API."""
    options = {"policy": policy, "metadata": metadata, "retention_seconds": retention_seconds, "webhook": webhook}
    said = {name: value for name, value in options.items() if value is not None}
    return {"kind": kind, "model": model, "input": given, **said}


def once(idempotency_key: str | None) -> dict[str, str]:
    """Return the header by which however many requests are one; the key is made when none is given."""
    key = idempotency_key or str(uuid.uuid4())
    if not (key.isascii() and key.isprintable()):
        raise StokerError("An idempotency key is made of printable ASCII characters; a UUID will do.")
    return {"Idempotency-Key": key}


def filter_params(wanted: JobFilter) -> dict[str, str]:
    """Return a filter as it goes into the address."""
    told: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    metadata = told.pop("metadata", {})
    plain = {name: value.isoformat() if isinstance(value, datetime) else str(value) for name, value in told.items()}
    return plain | {f"metadata[{name}]": str(value) for name, value in metadata.items()}
