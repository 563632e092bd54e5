"""A job's events, as they happen."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from producer_api.events import has_seen_all, stream
from producer_api.jobs import find_row
from producer_api.openapi import Responses, errors
from producer_api.state import ApiHere, ReadOwner
from schemas.errors import NotFoundError
from schemas.jobs import TERMINAL

router = APIRouter(tags=["jobs"])

STREAM: Responses = {
    200: {"description": "The events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "You have seen the last event; do not come back."},
    **errors(NotFoundError),
}
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.get("/v1/jobs/{job_id}/events", response_class=StreamingResponse, responses=STREAM)
async def job_events(
    request: Request,
    api: ApiHere,
    owner: ReadOwner,
    job_id: str,
    *,
    last_event_id: Annotated[str | None, Header(max_length=50)] = None,
    after: str | None = None,
) -> Response:
    """Stream a job's events (server-sent events) until it ends; `Last-Event-ID` or `?after=` resumes."""
    row = await find_row(request, job_id, owner)
    position = last_event_id or after
    if row.status in TERMINAL and await has_seen_all(api, job_id, position):
        return Response(status_code=204)  # which tells a browser not to come back
    return StreamingResponse(stream(api, row, position), headers=HEADERS, media_type="text/event-stream")
