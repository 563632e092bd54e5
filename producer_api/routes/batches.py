"""Batches as OpenAI's clients make, list, read and cancel them; pause, resume and partial output are our own."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from producer_api.answers import json_answer, replayed
from producer_api.authentication import Scope
from producer_api.batch_bodies import read_batch
from producer_api.batch_wishes import (
    BODIES,
    BatchAnswer,
    BatchList,
    BatchQuery,
    BatchWanted,
    PlainBatchAnswer,
)
from producer_api.body import read_query
from producer_api.doors import DoorRoute
from producer_api.jobs import origin_of
from producer_api.openapi import CALLER, IDEMPOTENCY_KEY, REFERENCE, Responses, door_errors, query, shape
from producer_api.state import Api, api_of
from schemas.base import JsonObject
from schemas.batches import BATCH_ENDS
from schemas.errors import (
    ConflictError,
    GoneError,
    IdempotencyMismatchError,
    MalformedError,
    NotFoundError,
    TooLargeError,
    UrlRefusedError,
)
from schemas.files import JSON_LINES
from storage.batches import BatchFilter
from tasks.batch_views import batch_view

router = APIRouter(prefix="/v1/batches", tags=["openai"], route_class=DoorRoute)

OF_A_FILE = {"input_file_id": "file_…", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
PLAIN = {"inputs": [{"kind": "text", "model": "chat", "input": {"prompt": "Say hello."}}], "completion_window": "1h"}
WANTED: JsonObject = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [{"$ref": REFERENCE.format(model=one.__name__)} for one in BODIES]},
                "examples": {"of a file": {"value": OF_A_FILE}, "of inputs": {"value": PLAIN}},
            }
        },
    },
    "parameters": [IDEMPOTENCY_KEY],
}
MADE = {
    **shape(BatchAnswer),
    **shape(PlainBatchAnswer, 202),
    **door_errors(MalformedError, NotFoundError, TooLargeError, IdempotencyMismatchError, UrlRefusedError),
}
LOOK = {"parameters": [CALLER]}
SEEN = {**shape(BatchAnswer), **door_errors(NotFoundError)}
STEERED = {**shape(BatchAnswer), **door_errors(NotFoundError, ConflictError)}
CONTENT: Responses = {
    200: {"description": "JSON lines, one for each line that has ended.", "content": {JSON_LINES: {}}}
}
READ = {**CONTENT, **door_errors(NotFoundError, GoneError)}
KEPT = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
LONG_BYTES = 64 * 2**10
"""Longer bodies are read in a thread."""


@router.post("", responses=MADE, openapi_extra=WANTED)
async def create_batch(request: Request) -> Response:
    """Make a batch of an uploaded file, as OpenAI's API does; or of `inputs` that come along (202)."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.SUBMIT)
    content = await request.body()
    if len(content) > LONG_BYTES:
        wanted = await asyncio.to_thread(read_batch, content)
    else:
        wanted = read_batch(content)
    origin = origin_of(request, key.caller_id)
    if isinstance(wanted, BatchWanted):
        row, is_new = await api.batches.create(wanted, origin)
        return json_answer(batch_view(row), 200, replayed(is_new))
    row, is_new = await api.batches.create_plain(wanted, origin)
    counts = {"total": row.total or len(wanted.inputs), "completed": row.completed, "failed": row.failed}
    headers = {"Location": f"{origin.base}{router.prefix}/{row.id}", **replayed(is_new)}
    return json_answer(batch_view(row) | counts, 202, headers)


@router.get("", responses={**shape(BatchList), **door_errors()}, openapi_extra=query(BatchQuery))
async def list_batches(request: Request) -> Response:
    """List your batches, newest first."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.READ)
    wanted = read_query(BatchQuery, request)
    caller_id = await api.keys.caller_of(key, wanted.caller or None)
    found = await api.batches.page(BatchFilter(caller_id, wanted.limit, wanted.after or None))
    data = [batch_view(row) for row in found[: wanted.limit]]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return json_answer({"object": "list", "data": data, "has_more": len(found) > wanted.limit, **ends})


@router.get("/{batch_id}", responses=SEEN, openapi_extra=LOOK)
async def get_batch(request: Request, batch_id: str) -> Response:
    """Look at a batch."""
    api = api_of(request)
    return json_answer(batch_view(await api.batches.find(batch_id, await _owner(api, request, Scope.READ))))


@router.post("/{batch_id}/cancel", responses=SEEN, openapi_extra=LOOK)
async def cancel_batch(request: Request, batch_id: str) -> Response:
    """Cancel a batch: what has ended so far is in its files. One that has ended stays as it is."""
    api = api_of(request)
    return json_answer(batch_view(await api.batches.cancel(batch_id, await _owner(api, request, Scope.SUBMIT))))


@router.post("/{batch_id}/pause", responses=STEERED, openapi_extra=LOOK)
async def pause_batch(request: Request, batch_id: str) -> Response:
    """Let no more lines of a batch begin; those that run go on. Its completion window goes on, too."""
    return await _pause(request, batch_id, paused=True)


@router.post("/{batch_id}/resume", responses=STEERED, openapi_extra=LOOK)
async def resume_batch(request: Request, batch_id: str) -> Response:
    """Let the lines of a paused batch begin again."""
    return await _pause(request, batch_id, paused=False)


@router.get("/{batch_id}/output", responses=READ, openapi_extra=LOOK)
async def get_batch_output(request: Request, batch_id: str) -> Response:
    """Read the answers so far, in the order of the input; all of them when the batch has ended."""
    return await _output(request, batch_id, errors=False)


@router.get("/{batch_id}/errors", responses=READ, openapi_extra=LOOK)
async def get_batch_errors(request: Request, batch_id: str) -> Response:
    """Read the lines that have failed so far, in the order of the input, and why."""
    return await _output(request, batch_id, errors=True)


async def _output(request: Request, batch_id: str, *, errors: bool) -> Response:
    api = api_of(request)
    row = await api.batches.find(batch_id, await _owner(api, request, Scope.READ))
    if row.status not in BATCH_ENDS:
        return StreamingResponse(await api.batch_output.open(row, errors=errors), headers=KEPT, media_type=JSON_LINES)
    file = await api.batch_output.find_file(row, errors=errors)
    if file is None:
        return Response(b"", headers=KEPT, media_type=JSON_LINES)
    headers = {**KEPT, "Content-Length": str(file.bytes)}
    return StreamingResponse(await api.files.open(file), headers=headers, media_type=JSON_LINES)


async def _pause(request: Request, batch_id: str, *, paused: bool) -> Response:
    api = api_of(request)
    owner = await _owner(api, request, Scope.SUBMIT)
    return json_answer(batch_view(await api.batches.pause(batch_id, owner, paused=paused)))


async def _owner(api: Api, request: Request, scope: Scope) -> str:
    """Return whose batch a request is about."""
    key = await api.keys.authenticate(request, scope)
    return await api.keys.caller_of(key, request.query_params.get("caller"))
