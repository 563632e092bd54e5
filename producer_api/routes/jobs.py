"""Jobs: submit one, look at it, list them, cancel, retry, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.authentication import Scope
from producer_api.body import read_body
from producer_api.documents import JobPage
from producer_api.jobs import (
    answer_accepted,
    applied,
    cancel,
    erase,
    find_job,
    find_row,
    input_of,
    must_have_ended,
    origin_of,
    wait_for_end,
)
from producer_api.listing import JobQuery
from producer_api.openapi import LOOK, RETRY, RETRY_ERRORS, SUBMIT, SUBMIT_ERRORS, answers, errors, shape
from producer_api.plain import PlainRoute, wanted_wait
from producer_api.state import ApiHere, Reader, SteeredOwner, Submitter, api_of, base_of
from producer_api.views import entity_tag
from schemas.errors import ConflictError, NotFoundError
from schemas.jobs import TERMINAL, Job
from storage import jobs

hot = APIRouter(tags=["jobs"], route_class=PlainRoute)
router = APIRouter(tags=["jobs"])

SUBMITTED = {**shape(Job), **answers(202, Job, *SUBMIT_ERRORS)}
RETRIED = {**shape(Job), **answers(202, Job, *RETRY_ERRORS)}


@hot.post("/v1/jobs", status_code=202, responses=SUBMITTED, openapi_extra=SUBMIT)
async def submit_job(request: Request) -> Response:
    """Submit a job. With `Prefer: wait=N` the answer waits for its end: 200 when it ended in time, else 202."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.SUBMIT)
    wait_seconds = wanted_wait(request, api.services.settings.wait_limit_seconds)
    accepted = await api.admission.submit(await read_body(request), origin_of(request, key.caller_id))
    return await answer_accepted(request, accepted, key.caller_id, wait_seconds)


@hot.get("/v1/jobs/{job_id}", responses=answers(200, Job, NotFoundError), openapi_extra=LOOK)
async def get_job(request: Request, job_id: str) -> Response:
    """Look at a job. With `Prefer: wait=N` or `?wait=N` the answer waits for its end."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.READ)
    caller_id = await api.keys.caller_of(key, request.query_params.get("caller"))
    wait_seconds = wanted_wait(request, api.services.settings.wait_limit_seconds)
    stored = await find_job(request, job_id, caller_id)
    if wait_seconds and stored.row.status not in TERMINAL:
        await wait_for_end(request, job_id, wait_seconds)
        stored = await find_job(request, job_id, caller_id)
    view = await api.views.render(stored, base_of(request))
    tag = entity_tag(view, api.services.task_settings.presign_seconds)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", **applied(wait_seconds)}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return json_answer(view, 200, headers)


@router.get("/v1/jobs", responses=answers(200, JobPage))
async def list_jobs(request: Request, api: ApiHere, key: Reader, query: Annotated[JobQuery, Query()]) -> Response:
    """List jobs, newest first. `metadata[key]=value` filters by metadata."""
    wanted = query.as_filter(await api.keys.caller_of(key, query.caller))
    rows = await api.services.database.aread(lambda connection: jobs.page(connection, wanted))
    return json_answer(await api.views.render_page(rows, wanted.limit, base_of(request)))


@router.post("/v1/jobs/{job_id}/cancel", responses=answers(200, Job, NotFoundError))
async def cancel_job(request: Request, api: ApiHere, owner: SteeredOwner, job_id: str) -> Response:
    """Cancel a job: at once while it waits, as soon as its worker hears of it while it runs. Idempotent."""
    await find_row(request, job_id, owner)
    await cancel(api, job_id)
    stored = await find_job(request, job_id, owner)
    return json_answer(await api.views.render(stored, base_of(request)))


@router.post("/v1/jobs/{job_id}/retry", status_code=202, responses=RETRIED, openapi_extra=RETRY)
async def retry_job(request: Request, api: ApiHere, key: Submitter, job_id: str) -> Response:
    """Make a new job from one that has ended, with the same input; `retry_of` names the old one."""
    wait_seconds = wanted_wait(request, api.services.settings.wait_limit_seconds)
    row = await find_row(request, job_id, key.caller_id)
    must_have_ended(row, "retry it")
    accepted = await api.admission.retry(row, await input_of(api, row), origin_of(request, key.caller_id))
    return await answer_accepted(request, accepted, key.caller_id, wait_seconds)


@router.delete("/v1/jobs/{job_id}", status_code=204, responses=errors(NotFoundError, ConflictError))
async def delete_job(request: Request, api: ApiHere, owner: SteeredOwner, job_id: str) -> Response:
    """Erase a job that has ended: its input, output, objects and events."""
    must_have_ended(await find_row(request, job_id, owner), "delete it")
    await erase(api, job_id)
    return Response(status_code=204)
