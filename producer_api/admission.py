"""The one way in: whatever door a job comes through, here it is judged, stored and announced."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from producer_api.services import Services
from schemas.base import JsonObject
from schemas.catalog import Model
from schemas.errors import IdempotencyMismatchError, InvalidError, StokerError, TooManyError
from schemas.image import ImageInput
from schemas.jobs import JobRequest
from schemas.refusals import invalid
from schemas.text import TextInput
from storage import jobs
from storage.jobs import NewJob, Submission
from storage.objects.port import input_key
from storage.rows import JobRow
from tasks.adapter_names import resolve_input
from tasks.addresses import read_rules
from tasks.counting import Counting
from tasks.dispatch import Dispatcher, Origin, Request, check_request, hint_width, new_job
from tasks.freshness import Fresh
from tasks.images import any_seed, pixel_steps, settle
from tasks.routing import find_model
from tasks.webhooks.intake import row_of_webhook, webhook_of_row

INLINE_CHARACTERS = 16 * 1024
"""Longer inputs go to the object store, and the row has a pointer."""
COUNT_SECONDS = 1.0
COUNTED_CALLERS = 10_000
KEY_CHARACTERS = 255

REQUEST: TypeAdapter[Request] = TypeAdapter(JobRequest)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job that stands for a request; its new row and input when this request made it."""

    job_id: str
    job: NewJob | None
    input: str
    origin: Origin


class Admission:
    """Judges requests and makes them rows."""

    def __init__(self, services: Services, dispatcher: Dispatcher, counting: Counting) -> None:
        self._services = services
        self._dispatcher = dispatcher
        self._counting = counting
        self._waiting = WaitingJobs(services)
        self._rules = read_rules(services.task_settings)

    async def submit(self, body: bytes, origin: Origin) -> Accepted:
        """Admit a request as it came over the wire."""
        try:
            request = REQUEST.validate_json(body, strict=True)
        except ValidationError as error:
            raise _refusal(body, error) from None
        return await self.admit(request, origin)

    async def retry(self, row: JobRow, given: str, origin: Origin) -> Accepted:
        """Admit an ended job once more, under the limits of today."""
        model = find_model(self._services.catalog, row.model)
        fields = {
            "kind": row.kind,
            "model": row.model,
            "input": from_json(given),
            "metadata": from_json(row.metadata) if row.metadata else {},
            "retention_seconds": row.retention_seconds,
            "webhook": webhook_of_row(row.webhook),
            "policy": {
                "priority": row.priority,
                "ttl_seconds": round(row.expires_at - row.queued_at, 3),
                "timeout_seconds": min(row.timeout_seconds, model.timeout_seconds),
                "max_attempts": row.max_attempts,
            },
        }
        try:
            request = REQUEST.validate_python(fields)
        except ValidationError as error:
            raise invalid(error) from None
        return await self.admit(request, origin, retry_of=row.id)

    async def admit(self, request: Request, origin: Origin, *, retry_of: str | None = None) -> Accepted:
        """Make a valid request a job, or find the job that its idempotency key made before; else nothing happened."""
        services, now = self._services, time.time()
        model = find_model(services.catalog, request.model)
        check_request(request, model, now)
        given, cost, adapters = await self._judge(request, model, origin.caller_id)
        webhook = row_of_webhook(request.webhook, self._rules, origin.base) if request.webhook else None
        await self._waiting.reserve(origin.caller_id)
        place = await self._dispatcher.place(model, adapters)
        kept_seconds = services.task_settings.retention_seconds
        job = new_job(request, model, place, origin, now=now, kept_seconds=kept_seconds)
        job.retry_of, job.webhook, job.adapters = retry_of, webhook, " ".join(adapters) or None
        for column, predicted in cost.items():
            setattr(job, column, predicted)
        submission = await self._lay_out(job, given, origin, request)
        admitted = await services.database.awrite(jobs.submit, submission)
        if not admitted.same_request:
            raise IdempotencyMismatchError(param="Idempotency-Key")
        if not admitted.is_new:
            return Accepted(admitted.job_id, None, given, origin)
        if job.run_at is None:
            services.hints.send(job.queue, width=hint_width(model.max_in_flight))
        return Accepted(job.id, job, given, origin)

    async def _judge(self, request: Request, model: Model, caller_id: str) -> tuple[str, JsonObject, list[str]]:
        """Return the input as it is stored, the columns of what it is predicted to cost, and its adapters."""
        cost: JsonObject = {}
        given, adapters = await resolve_input(self._services.database, request.input, model, caller_id)
        if isinstance(given, TextInput):
            given, counted = await self._counting.judge(given, model)
            cost = asdict(counted) if counted else {}
        elif isinstance(given, ImageInput):
            given = settle(given, model, any_seed())
            cost = {"pixel_steps": pixel_steps(given)}
        return given.model_dump_json(exclude_defaults=True), cost, adapters

    async def _lay_out(self, job: NewJob, given: str, origin: Origin, request: Request) -> Submission:
        fingerprint = _fingerprint(request, job.retry_of) if origin.idempotency_key else ""
        if len(given) <= INLINE_CHARACTERS:
            return Submission(job, given, None, origin.idempotency_key, fingerprint)
        key = input_key(job.id)
        await asyncio.to_thread(self._services.objects.put, key, given.encode(), "application/json")
        return Submission(job, None, key, origin.idempotency_key, fingerprint)


def _fingerprint(request: Request, retry_of: str | None) -> str:
    """Return what two requests share that mean the same; defaults that come later do not change it."""
    said = request.model_dump_json(exclude_defaults=True) + (retry_of or "")
    return hashlib.sha256(said.encode()).hexdigest()


def check_idempotency_key(key: str | None) -> str | None:
    """Return the key, or refuse one that cannot be kept."""
    if key is not None and not (0 < len(key) <= KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise InvalidError(
            f"The header Idempotency-Key takes 1 to {KEY_CHARACTERS} printable ASCII characters; send a UUID.",
            param="Idempotency-Key",
        )
    return key


class WaitingJobs:
    """How many jobs each caller has waiting: counted once a second, and what was admitted since."""

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._limit = services.settings.max_queued_per_caller
        self._counts: dict[str, Fresh[int]] = {}
        self._since: Counter[str] = Counter()

    async def reserve(self, caller_id: str) -> None:
        """Take a place for one more job, or refuse it."""
        if caller_id not in self._counts:
            if len(self._counts) >= COUNTED_CALLERS:
                self._counts.clear()
                self._since.clear()
            self._counts[caller_id] = Fresh(lambda: self._count(caller_id), COUNT_SECONDS)
        waiting = await self._counts[caller_id].get() + self._since[caller_id]
        if waiting >= self._limit:
            raise TooManyError(
                f"{waiting:,} jobs of yours are waiting and {self._limit:,} may; submit more when some have ended.",
                retry_after_seconds=COUNT_SECONDS,
            )
        self._since[caller_id] += 1

    async def _count(self, caller_id: str) -> int:
        self._since.pop(caller_id, None)
        return await self._database.aread(lambda connection: jobs.count_waiting(connection, caller_id, self._limit))


def _refusal(body: bytes, error: ValidationError) -> StokerError:
    """Return what is wrong with a request; many inputs are no job."""
    refusal = invalid(error)
    if isinstance(refusal, InvalidError) and isinstance(said := from_json(body), dict) and "inputs" in said:
        return InvalidError("A job has one 'input'; send 'inputs' to POST /v1/batches.", param="inputs")
    return refusal
