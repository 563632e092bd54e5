"""What several doors do with a job: admit it, find it, wait for it, answer with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter

from starlette.requests import Request
from starlette.responses import Response

from producer_api.admission import Accepted, check_idempotency_key
from producer_api.answers import json_answer
from producer_api.edge import note_wait, request_id_of
from producer_api.headers import header_of
from producer_api.state import Api, api_of, base_of
from producer_api.views import Stored
from schemas.base import JsonObject
from schemas.errors import ConflictError, FaultError, GoneError, NotFoundError, StokerError
from schemas.jobs import TERMINAL, JobRequest, Kind
from storage import jobs, retention
from storage.jobs import Canceled
from storage.objects.port import job_prefix
from storage.rows import JobRow
from tasks.dispatch import Origin
from tasks.doors.failures import door_param
from tasks.logs import get_logger
from tasks.orders import cancel_order

log = get_logger(__name__)


def origin_of(request: Request, caller_id: str) -> Origin:
    """Return who asks, by which request."""
    key = check_idempotency_key(header_of(request.scope, b"idempotency-key"))
    return Origin(caller_id, request_id_of(request.scope), key, base_of(request))


async def admit_at_door(request: Request, job: JobRequest, caller_id: str, kind: Kind = Kind.TEXT) -> Accepted:
    """Make a request a job; what is wrong with it is said in the words of the door, whose kind this is."""
    try:
        return await api_of(request).admission.admit(job, origin_of(request, caller_id))
    except StokerError as error:
        error.param = door_param(error.param, kind)
        raise


async def find_job(request: Request, job_id: str, caller_id: str) -> Stored:
    """Return a caller's job; another's is not found."""
    request.scope["job_id"] = job_id
    stored = await api_of(request).views.find(job_id, caller_id)
    if stored is None:
        raise _not_found(job_id)
    return stored


async def find_row(request: Request, job_id: str, caller_id: str) -> JobRow:
    """Return the row alone of a caller's job, for those who do not show it."""
    request.scope["job_id"] = job_id
    row = await api_of(request).services.database.aread(lambda connection: jobs.find(connection, job_id, caller_id))
    if row is None:
        raise _not_found(job_id)
    return row


def _not_found(job_id: str) -> NotFoundError:
    return NotFoundError(f"There is no job '{job_id[:100]}' of yours; GET /v1/jobs lists those there are.")


async def wait_for_end(request: Request, job_id: str, seconds: float) -> None:
    """Return when a job has ended or the time is up; the time is not counted as overhead."""
    began_at = perf_counter()
    try:
        await api_of(request).watch.until_ended(job_id, seconds)
    finally:
        note_wait(request.scope, perf_counter() - began_at)


async def answer_accepted(
    request: Request,
    accepted: Accepted,
    caller_id: str,
    wait_seconds: float | None,
    dress: Callable[[JsonObject], JsonObject] = lambda view: view,
) -> Response:
    """Answer with the job that stands for a request: 202 while it is under way, 200 when it has ended."""
    api = api_of(request)
    request.scope["job_id"] = accepted.job_id
    base = base_of(request)
    headers = {"Location": f"{base}/v1/jobs/{accepted.job_id}", **applied(wait_seconds)}
    if accepted.job is not None and not wait_seconds:
        return json_answer(dress(await api.views.render_new(accepted.job, accepted.input, base)), 202, headers)
    if wait_seconds:
        await wait_for_end(request, accepted.job_id, wait_seconds)
    if accepted.job is None:
        headers["Idempotent-Replayed"] = "true"
    try:
        stored = await api.views.find(accepted.job_id, caller_id)
    except FaultError:
        if accepted.job is None:
            raise
        # It is accepted, so it must not be refused for what came after.
        return json_answer(dress(await api.views.render_new(accepted.job, accepted.input, base)), 202, headers)
    if stored is None:
        raise GoneError("The job that this Idempotency-Key made was deleted; send a new key to run it again.")
    status = 200 if stored.row.status in TERMINAL else 202
    return json_answer(dress(await api.views.render(stored, base)), status, headers)


def must_have_ended(row: JobRow, wish: str) -> None:
    """Refuse what can only be done with a job that has ended."""
    if row.status not in TERMINAL:
        raise ConflictError(f"The job is {row.status}; cancel it or wait for its end, then {wish}.")


async def input_of(api: Api, row: JobRow) -> str:
    """Return the JSON of a job's input, wherever it lies."""
    found = await api.services.database.aread(lambda connection: jobs.find_input(connection, row.id))
    if found is None:
        raise GoneError("The job's input was kept until its retention passed and is erased now; submit it anew.")
    text, key = found
    if text is not None:
        return text
    return (await asyncio.to_thread(api.services.objects.get, key or "")).decode()


async def cancel(api: Api, job_id: str) -> None:
    """Cancel a job in SQL, then tell who should know at once; the worker's beat brings what is lost here."""
    canceled = await api.services.database.atransact(lambda connection: jobs.cancel(connection, job_id))
    await _tell_canceled(api, job_id, canceled)


async def abandon(api: Api, accepted: Accepted) -> None:
    """Cancel a job whose answer nobody waits for any more; the same request, sent again, makes another one."""
    job_id, origin = accepted.job_id, accepted.origin
    canceled = await api.services.database.atransact(
        lambda connection: jobs.abandon(connection, job_id, origin.caller_id, origin.idempotency_key)
    )
    await _tell_canceled(api, job_id, canceled)


async def _tell_canceled(api: Api, job_id: str, canceled: Canceled) -> None:
    services = api.services
    with suppress(FaultError):
        if canceled.ended is not None:
            api.webhooks.announce()
            await services.bell.ring([job_id])
        if canceled.owner is not None:
            await services.control.send(canceled.owner, cancel_order(job_id, canceled.attempt))


async def erase(api: Api, job_id: str) -> None:
    """Erase an ended job: first what the row says, then what it pointed to; the sweep finds what is left."""
    services = api.services
    await services.database.atransact(lambda connection: retention.erase(connection, [job_id], hide=True))
    try:
        await asyncio.to_thread(services.objects.delete_prefix, job_prefix(job_id))
        await services.events.erase([job_id])
    except FaultError as fault:
        log.warning("A deleted job left something behind; the sweep takes it.", job_id=job_id, fault=repr(fault))


def applied(wait_seconds: float | None) -> dict[str, str]:
    """Return the header that says how long was really waited for."""
    return {} if wait_seconds is None else {"Preference-Applied": f"wait={wait_seconds:g}"}
