"""Embeddings as OpenAI's clients ask for them; each request is a job like any other."""

from __future__ import annotations

import asyncio
import base64
import struct
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BeforeValidator, Field
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.authentication import Scope
from producer_api.body import read_as
from producer_api.documents import EmbeddingList
from producer_api.doors import CLIENT_LEFT, DoorRoute, check_kind, door_param, output_of, wait_at_door
from producer_api.jobs import origin_of
from producer_api.openapi import IDEMPOTENCY_KEY, SUBMIT_ERRORS, body, door_errors, shape
from producer_api.state import api_of
from schemas.base import JsonObject, Strict
from schemas.embedding import DIMENSIONS_LIMIT, TEXTS_LIMIT, EmbeddingInput
from schemas.errors import ConflictError, DoorTimeoutError, EngineFailedError, StokerError
from schemas.jobs import EmbeddingJob, Kind, Policy
from storage.rows import JobRow
from tasks.routing import find_model

router = APIRouter(tags=["openai"], route_class=DoorRoute)

EXAMPLE = {"model": "minilm", "input": ["The cat sat on the mat.", "Tax law."]}


class EncodingFormat(StrEnum):
    """How vectors are written."""

    FLOAT = "float"
    BASE64 = "base64"


def _as_texts(value: object) -> object:
    if isinstance(value, list) and any(isinstance(item, int | list) for item in value):
        message = "token arrays are not read here; send the text itself, as a string or a list of strings"
        raise ValueError(message)
    return [value] if isinstance(value, str) else value


class EmbeddingsRequest(Strict):
    """What OpenAI's clients send."""

    model: str = Field(min_length=1, max_length=128)
    input: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        BeforeValidator(_as_texts, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=TEXTS_LIMIT),
    ]
    encoding_format: EncodingFormat = EncodingFormat.FLOAT
    dimensions: int | None = Field(None, ge=1, le=DIMENSIONS_LIMIT)
    user: str | None = Field(None, description="Accepted and ignored.")


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
    catalog = api.services.catalog
    check_kind(catalog, find_model(catalog, wanted.model), Kind.EMBEDDING)
    try:
        accepted = await api.admission.admit(
            _as_job(wanted, api.services.settings.door_timeout_seconds), origin_of(request, key.caller_id)
        )
    except StokerError as error:
        param = door_param(error.param)
        error.param = param.replace("texts", "input", 1) if param else None
        raise
    row = await wait_at_door(request, accepted)
    if row is None:
        return Response(status_code=CLIENT_LEFT)
    output = await output_of(api, row)
    return await asyncio.to_thread(_render, output, row, wanted.encoding_format)  # thousands of vectors take a while


def _as_job(wanted: EmbeddingsRequest, patience_seconds: float) -> EmbeddingJob:
    return EmbeddingJob(
        kind=Kind.EMBEDDING,
        model=wanted.model,
        input=EmbeddingInput(texts=wanted.input, dimensions=wanted.dimensions),
        policy=Policy(ttl_seconds=patience_seconds),  # after that nobody waits for it
    )


def _render(output: bytes, row: JobRow, encoding: EncodingFormat) -> Response:
    usage = from_json(row.usage or "{}").get("prompt_tokens", 0)
    write = _as_base64 if encoding is EncodingFormat.BASE64 else list
    vectors: list[Any] = [write(vector) for vector in from_json(output)["embeddings"]]
    answer: JsonObject = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(vectors)],
        "model": row.model,
        "usage": {"prompt_tokens": usage, "total_tokens": usage},
    }
    return json_answer(answer)


def _as_base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
