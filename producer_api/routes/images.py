"""Images, the short way: the fields of the input stand at the top of the request."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from producer_api.authentication import Scope
from producer_api.body import read_as
from producer_api.jobs import answer_accepted, origin_of
from producer_api.openapi import IDEMPOTENCY_KEY, PREFER, SUBMIT_ERRORS, answers, body, shape
from producer_api.plain import PlainRoute, wanted_wait
from producer_api.state import api_of
from schemas.errors import ContentPolicyError, StokerError
from schemas.image import ImageInput
from schemas.jobs import ImageJob, Job, JobFields, Kind
from tasks.doors.failures import door_param
from tasks.routing import check_kind, find_model

router = APIRouter(tags=["images"], route_class=PlainRoute)

EXAMPLE = {"model": "sketch", "prompt": "a red circle", "seed": 7, "adapters": [{"id": "night", "strength": 0.5}]}


class ImageRequest(JobFields, ImageInput):
    """An image job, with the fields of its input at the top."""

    def as_job(self) -> ImageJob:
        """Return the job that this asks for."""
        said = {name: getattr(self, name) for name in self.model_fields_set}
        given = ImageInput(**{name: value for name, value in said.items() if name in ImageInput.model_fields})
        fields = {name: value for name, value in said.items() if name in JobFields.model_fields}
        return ImageJob(kind=Kind.IMAGE, input=given, **fields)


WANTED = {
    "requestBody": body("ImageRequest", {"a picture with an adapter": {"value": EXAMPLE}}),
    "parameters": [PREFER, IDEMPOTENCY_KEY],
}
ANSWERS = {**shape(Job), **answers(202, Job, ContentPolicyError, *SUBMIT_ERRORS)}


@router.post("/v1/images", status_code=202, responses=ANSWERS, openapi_extra=WANTED)
async def create_image(request: Request) -> Response:
    """Submit an image job. With `Prefer: wait=N` the answer waits for its end: 200 when it ended in time, else 202."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.SUBMIT)
    wait_seconds = wanted_wait(request, api.services.settings.wait_limit_seconds)
    wanted = await read_as(ImageRequest, request)
    catalog = api.services.catalog
    check_kind(catalog, find_model(catalog, wanted.model), Kind.IMAGE)
    try:
        accepted = await api.admission.admit(wanted.as_job(), origin_of(request, key.caller_id))
    except StokerError as error:
        error.param = door_param(error.param)
        raise
    return await answer_accepted(request, accepted, key.caller_id, wait_seconds)
