"""Jobs: submit one, look at it, wait for its end."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.authentication import Scope
from producer_api.jobs import answer_accepted, applied, find_job, origin_of, wait_for_end
from producer_api.plain import PlainRoute, wanted_wait
from producer_api.state import api_of, base_of
from producer_api.views import entity_tag
from schemas.jobs import TERMINAL

router = APIRouter(tags=["jobs"], route_class=PlainRoute)


@router.post("/v1/jobs", status_code=202)
async def submit_job(request: Request) -> Response:
    """Submit a job. With `Prefer: wait=N` the answer waits for its end: 200 when it ended in time, else 202."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.SUBMIT)
    wait_seconds = wanted_wait(request, api.services.settings.wait_limit_seconds)
    accepted = await api.admission.submit(await request.body(), origin_of(request, key.caller_id))
    return await answer_accepted(request, accepted, key.caller_id, wait_seconds)


@router.get("/v1/jobs/{job_id}")
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
    tag = entity_tag(view, api.services.settings.presign_seconds)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", **applied(wait_seconds)}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return json_answer(view, 200, headers)
