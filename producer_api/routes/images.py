"""Images, the short way: the fields of the input stand at the top of the request."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from producer_api.openapi import SUBMIT_ERRORS, SUBMITTING, answers, body, shape
from producer_api.plain import PlainRoute
from producer_api.short import part, submit_short
from schemas.errors import ContentPolicyError
from schemas.image import ImageInput
from schemas.jobs import ImageJob, Job, JobFields, Kind

router = APIRouter(tags=["images"], route_class=PlainRoute)

EXAMPLE = {"model": "sketch", "prompt": "a red circle", "seed": 7, "adapters": [{"id": "night", "strength": 0.5}]}


class ImageRequest(JobFields, ImageInput):
    """An image job, with the fields of its input at the top."""

    def as_job(self) -> ImageJob:
        """Return the job that this asks for."""
        return ImageJob(kind=Kind.IMAGE, **part(self, ImageInput))


WANTED = {
    "requestBody": body("ImageRequest", {"a picture with an adapter": {"value": EXAMPLE}}),
    "parameters": SUBMITTING,
}
ANSWERS = {**shape(Job), **answers(202, Job, ContentPolicyError, *SUBMIT_ERRORS)}


@router.post("/v1/images", status_code=202, responses=ANSWERS, openapi_extra=WANTED)
async def create_image(request: Request) -> Response:
    """Submit an image job. With `Prefer: wait=N` the answer waits for its end: 200 when it ended in time, else 202."""
    return await submit_short(request, ImageRequest, ImageRequest.as_job)
