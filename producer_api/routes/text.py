"""Text, the short way: the fields of the input stand at the top of the request."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from producer_api.openapi import SUBMIT_ERRORS, SUBMITTING, answers, body, shape
from producer_api.plain import PlainRoute
from producer_api.short import part, submit_short
from schemas.jobs import Job, JobFields, Kind, TextJob
from schemas.text import TextInput

router = APIRouter(tags=["text"], route_class=PlainRoute)

EXAMPLE = {"model": "chat", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 64}


class TextRequest(JobFields, TextInput):
    """A text job, with the fields of its input at the top."""

    def as_job(self) -> TextJob:
        """Return the job that this asks for."""
        return TextJob(kind=Kind.TEXT, **part(self, TextInput))


WANTED = {
    "requestBody": body("TextRequest", {"a question": {"value": EXAMPLE}}),
    "parameters": SUBMITTING,
}
ANSWERS = {**shape(Job), **answers(202, Job, *SUBMIT_ERRORS)}


@router.post("/v1/text", status_code=202, responses=ANSWERS, openapi_extra=WANTED)
async def create_text(request: Request) -> Response:
    """Submit a text job. With `Prefer: wait=N` the answer waits for its end: 200 when it ended in time, else 202."""
    return await submit_short(request, TextRequest, TextRequest.as_job)
