"""Chat completions as OpenAI's clients ask for them; each request is a job like any other."""

from __future__ import annotations

import time

from fastapi import APIRouter
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.authentication import Scope
from producer_api.body import read_as
from producer_api.chat_chunks import Chunks
from producer_api.documents import ChatCompletion
from producer_api.door_streams import DoorStream
from producer_api.doors import CLIENT_LEFT, DoorRoute, output_of, wait_at_door
from producer_api.jobs import admit_at_door
from producer_api.openapi import IDEMPOTENCY_KEY, SUBMIT_ERRORS, body, door_errors, shape
from producer_api.state import api_of
from schemas.errors import ConflictError, DoorTimeoutError, EngineFailedError
from schemas.jobs import Kind, Policy, TextJob
from tasks.adapter_names import check_variant
from tasks.doors.chat import ChatRequest, Heading, as_completion, read_chat
from tasks.routing import split_variant

router = APIRouter(tags=["openai"], route_class=DoorRoute)

EXAMPLE = {"model": "chat", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 64}
WANTED = {
    "requestBody": body("ChatRequest", {"a question": {"value": EXAMPLE}}),
    "parameters": [IDEMPOTENCY_KEY],
}
ANSWERS = {
    **shape(ChatCompletion),
    **door_errors(*SUBMIT_ERRORS, ConflictError, EngineFailedError, DoorTimeoutError),
}
ANSWERS[200]["content"] = {"text/event-stream": {"schema": {"type": "string"}}}


@router.post("/v1/chat/completions", responses=ANSWERS, openapi_extra=WANTED)
async def create_chat_completion(request: Request) -> Response:
    """Answer a conversation, whole or in a stream, as OpenAI's API does. The header X-Stoker-Job-Id names the job."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.SUBMIT)
    wanted = await read_as(ChatRequest, request)
    await check_variant(api.services.database, api.services.catalog, wanted.model, key.caller_id)
    model, given = read_chat(wanted, api.services.catalog, split_variant)
    job = TextJob(
        kind=Kind.TEXT,
        model=model.alias,
        input=given,
        policy=Policy(ttl_seconds=api.services.settings.door_timeout_seconds),  # after that nobody waits for it
        metadata=wanted.metadata or {},
    )
    accepted = await admit_at_door(request, job, key.caller_id)
    created_at = accepted.job.created_at if accepted.job else time.time()
    heading = Heading(accepted.job_id, wanted.model, created_at)
    if wanted.stream:
        with_usage = wanted.stream_options is not None and wanted.stream_options.include_usage
        stream = DoorStream(request, accepted, Chunks(heading, job.input.n, with_usage=with_usage))
        return stream if await stream.hold() else Response(status_code=CLIENT_LEFT)
    row = await wait_at_door(request, accepted)
    if row is None:
        return Response(status_code=CLIENT_LEFT)
    return json_answer(as_completion(heading, from_json(await output_of(api, row)), from_json(row.usage or "{}")))
