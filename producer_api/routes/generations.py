"""Images as OpenAI's clients ask for them; each request is a job like any other."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.authentication import Scope
from producer_api.body import read_as
from producer_api.documents import ImageList
from producer_api.doors import CLIENT_LEFT, DoorRoute, output_of, wait_at_door
from producer_api.jobs import admit_at_door
from producer_api.openapi import IDEMPOTENCY_KEY, SUBMIT_ERRORS, body, door_errors, shape
from producer_api.state import Api, api_of
from schemas.base import JsonObject
from schemas.errors import ConflictError, ContentPolicyError, DoorTimeoutError, EngineFailedError
from schemas.jobs import ImageJob, Kind, Policy
from storage.rows import JobRow
from tasks.adapter_names import check_variant
from tasks.doors.images import (
    ImagesRequest,
    as_base64,
    as_images,
    must_have_pictures,
    names_of,
    only_model,
    read_images,
)
from tasks.routing import split_variant

router = APIRouter(tags=["openai"], route_class=DoorRoute)

EXAMPLE = {"model": "sketch", "prompt": "a red circle", "n": 2, "size": "64x64"}
WANTED = {
    "requestBody": body("ImagesRequest", {"two pictures": {"value": EXAMPLE}}),
    "parameters": [IDEMPOTENCY_KEY],
}
ANSWERS = {
    **shape(ImageList),
    **door_errors(*SUBMIT_ERRORS, ContentPolicyError, ConflictError, EngineFailedError, DoorTimeoutError),
}


@router.post("/v1/images/generations", responses=ANSWERS, openapi_extra=WANTED)
async def generate_images(request: Request) -> Response:
    """Draw images and wait for them, as OpenAI's API does. The header X-Stoker-Job-Id names the job."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.SUBMIT)
    wanted = await read_as(ImagesRequest, request)
    catalog = api.services.catalog
    await check_variant(api.services.database, catalog, wanted.model or only_model(catalog), key.caller_id)
    model, given = read_images(wanted, catalog, split_variant)
    job = ImageJob(
        kind=Kind.IMAGE,
        model=model.alias,
        input=given,
        policy=Policy(ttl_seconds=api.services.settings.door_timeout_seconds),  # after that nobody waits for it
    )
    accepted = await admit_at_door(request, job, key.caller_id, Kind.IMAGE)
    row = await wait_at_door(request, accepted)
    if row is None:
        return Response(status_code=CLIENT_LEFT)
    output = from_json(await output_of(api, row))
    must_have_pictures(output)
    find = _contents if wanted.response_format == "b64_json" else _links
    return await asyncio.to_thread(lambda: json_answer(as_images(row.created_at, find(api, row, output), output)))


def _links(api: Api, row: JobRow, output: JsonObject) -> list[JsonObject]:
    made = {one["name"]: one["url"] for one in api.views.artifacts(row)}
    return [{"url": made[name]} for name in names_of(output)]


def _contents(api: Api, row: JobRow, output: JsonObject) -> list[JsonObject]:
    keys = {one["name"]: one["key"] for one in from_json(row.artifacts or "[]")}
    return [as_base64(api.services.objects.get(keys[name])) for name in names_of(output)]
