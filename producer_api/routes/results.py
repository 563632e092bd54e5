"""What a job produced, for those who only want that."""

from __future__ import annotations

from base64 import b64decode

from fastapi import APIRouter
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from producer_api.answers import json_answer
from producer_api.documents import ArtifactList, Pending
from producer_api.jobs import find_row
from producer_api.openapi import Responses, answers, errors
from producer_api.state import ApiHere, ReadOwner
from schemas.errors import GoneError, JobFailedError, NotFoundError
from schemas.jobs import TERMINAL, Status

router = APIRouter(tags=["jobs"])

RESULT: Responses = {
    **answers(200, ArtifactList, NotFoundError, JobFailedError, GoneError),
    202: {"model": Pending, "description": "There is no result yet."},
    302: {"description": "The result is at the address in `Location`, for a while."},
}
UNCACHED = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
PRIVATE = {"Cache-Control": "private, no-store"}


PREVIEW: Responses = {
    200: {"description": "The picture, as far as it has become.", "content": {"image/jpeg": {}, "image/png": {}}},
    **errors(NotFoundError),
}


@router.get("/v1/jobs/{job_id}/preview", response_class=Response, responses=PREVIEW)
async def job_preview(request: Request, api: ApiHere, owner: ReadOwner, job_id: str) -> Response:
    """Look at the newest preview of a running image job; its events have each as it comes."""
    row = await find_row(request, job_id, owner)
    shown = await api.views.preview(row.id) if row.status == Status.RUNNING else None
    if shown is None:
        raise NotFoundError(f"The job is {row.status} and has no preview; only running image jobs have one.")
    return Response(b64decode(shown.data["base64"]), media_type=shown.data["content_type"], headers=UNCACHED)


@router.get("/v1/jobs/{job_id}/result", responses=RESULT)
async def job_result(request: Request, api: ApiHere, owner: ReadOwner, job_id: str) -> Response:
    """Go to a job's result: one artifact by redirect, several as a list, 202 while there is none yet."""
    row = await find_row(request, job_id, owner)
    if row.status not in TERMINAL:
        return json_answer({"id": row.id, "object": "job", "status": row.status}, 202, {"Retry-After": "1"})
    if row.status != Status.SUCCEEDED:
        why = f" ({from_json(row.error)['message']})" if row.error else ""
        raise JobFailedError(f"The job ended {row.status}{why} and has no result; POST …/retry runs it again.")
    if row.erased_at is not None:
        raise GoneError
    artifacts = api.views.artifacts(row)
    if len(artifacts) == 1:
        return RedirectResponse(artifacts[0]["url"], 302, PRIVATE)
    if artifacts:
        return json_answer({"object": "list", "data": artifacts}, 200, PRIVATE)
    return json_answer(from_json(row.output or "{}"), 200, PRIVATE)
