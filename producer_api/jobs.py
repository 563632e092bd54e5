"""What several doors do with a job: admit it, find it, wait for it, answer with it."""

from __future__ import annotations

from time import perf_counter

from starlette.requests import Request
from starlette.responses import Response

from producer_api.admission import Accepted, check_idempotency_key
from producer_api.answers import json_answer
from producer_api.edge import note_wait, request_id_of
from producer_api.state import api_of, base_of
from producer_api.views import Stored
from schemas.errors import FaultError, GoneError, NotFoundError
from schemas.jobs import TERMINAL
from tasks.dispatch import Origin


def origin_of(request: Request, caller_id: str) -> Origin:
    """Return who asks, by which request."""
    key = check_idempotency_key(request.headers.get("idempotency-key"))
    return Origin(caller_id, request_id_of(request.scope), key)


async def find_job(request: Request, job_id: str, caller_id: str) -> Stored:
    """Return a caller's job; another's is not found."""
    request.scope["job_id"] = job_id
    stored = await api_of(request).views.find(job_id, caller_id)
    if stored is None:
        raise NotFoundError(f"There is no job '{job_id[:100]}' of yours; GET /v1/jobs lists those there are.")
    return stored


async def wait_for_end(request: Request, job_id: str, seconds: float) -> None:
    """Return when a job has ended or the time is up; the time is not counted as overhead."""
    began_at = perf_counter()
    try:
        await api_of(request).watch.until_ended(job_id, seconds)
    finally:
        note_wait(request.scope, perf_counter() - began_at)


async def answer_accepted(
    request: Request, accepted: Accepted, caller_id: str, wait_seconds: float | None
) -> Response:
    """Answer with the job that stands for a request: 202 while it is under way, 200 when it has ended."""
    api = api_of(request)
    request.scope["job_id"] = accepted.job_id
    base = base_of(request)
    headers = {"Location": f"{base}/v1/jobs/{accepted.job_id}", **applied(wait_seconds)}
    if accepted.job is not None and not wait_seconds:
        return json_answer(await api.views.render_new(accepted.job, accepted.input, base), 202, headers)
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
        return json_answer(await api.views.render_new(accepted.job, accepted.input, base), 202, headers)
    if stored is None:
        raise GoneError("The job that this Idempotency-Key made was deleted; send a new key to run it again.")
    status = 200 if stored.row.status in TERMINAL else 202
    return json_answer(await api.views.render(stored, base), status, headers)


def applied(wait_seconds: float | None) -> dict[str, str]:
    """Return the header that says how long was really waited for."""
    return {} if wait_seconds is None else {"Preference-Applied": f"wait={wait_seconds:g}"}
