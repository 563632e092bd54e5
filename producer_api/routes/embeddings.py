"""Embeddings as OpenAI's clients ask for them; each request is a job like any other."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.authentication import Scope
from producer_api.body import read_as
from producer_api.documents import EmbeddingList
from producer_api.doors import CLIENT_LEFT, DoorRoute, output_of, wait_at_door
from producer_api.jobs import admit_at_door
from producer_api.openapi import IDEMPOTENCY_KEY, SUBMIT_ERRORS, body, door_errors, shape
from producer_api.state import api_of
from schemas.errors import ConflictError, DoorTimeoutError, EngineFailedError
from schemas.jobs import EmbeddingJob, Kind, Policy
from storage.rows import JobRow
from tasks.doors.embeddings import EmbeddingsRequest, EncodingFormat, as_list, read_embeddings

router = APIRouter(tags=["openai"], route_class=DoorRoute)

EXAMPLE = {"model": "minilm", "input": ["The cat sat on the mat.", "Tax law."]}


WANTED = {
    "requestBody": body("EmbeddingsRequest", {"two texts": {"value": EXAMPLE}}),
    "parameters": [IDEMPOTENCY_KEY],
}
ANSWERS = {
    **shape(EmbeddingList),
    **door_errors(*SUBMIT_ERRORS, ConflictError, EngineFailedError, DoorTimeoutError),
}


@router.post("/v1/embeddings", responses=ANSWERS, openapi_extra=WANTED)
async def create_embeddings(request: Request) -> Response:
    """Embed texts and wait for the vectors, as OpenAI's API does. The header X-Stoker-Job-Id names the job."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.SUBMIT)
    wanted = await read_as(EmbeddingsRequest, request)
    model, given = read_embeddings(wanted, api.services.catalog)
    job = EmbeddingJob(
        kind=Kind.EMBEDDING,
        model=model.alias,
        input=given,
        policy=Policy(ttl_seconds=api.services.settings.door_timeout_seconds),  # after that nobody waits for it
    )
    accepted = await admit_at_door(request, job, key.caller_id, Kind.EMBEDDING)
    row = await wait_at_door(request, accepted)
    if row is None:
        return Response(status_code=CLIENT_LEFT)
    output = await output_of(api, row)
    return await asyncio.to_thread(_render, output, row, wanted.encoding_format)  # thousands of vectors take a while


def _render(output: bytes, row: JobRow, encoding: EncodingFormat) -> Response:
    return json_answer(as_list(encoding, row.model, from_json(output), from_json(row.usage or "{}")))
