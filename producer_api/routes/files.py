"""Files as OpenAI's clients upload, list, read and delete them."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from producer_api.answers import json_answer, replayed
from producer_api.authentication import Scope
from producer_api.body import read_query
from producer_api.doors import CLIENT_LEFT, DoorRoute
from producer_api.files import FileAnswer, FileDeletion, FileList, FileQuery, file_view, page_view
from producer_api.jobs import origin_of
from producer_api.openapi import CALLER, IDEMPOTENCY_KEY, Responses, door_errors, query, shape
from producer_api.state import Api, api_of
from schemas.base import JsonObject
from schemas.errors import (
    ConflictError,
    GoneError,
    IdempotencyMismatchError,
    MalformedError,
    NotFoundError,
    TooLargeError,
    UploadTimeoutError,
)
from schemas.files import JSON_LINES
from storage.objects.port import disposition

router = APIRouter(prefix="/v1/files", tags=["openai"], route_class=DoorRoute)

FORM: JsonObject = {
    "type": "object",
    "required": ["purpose", "file"],
    "properties": {
        "purpose": {"type": "string", "enum": ["batch"]},
        "file": {"type": "string", "format": "binary"},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
    },
}
UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}}}
UPLOAD_ERRORS = (MalformedError, GoneError, TooLargeError, IdempotencyMismatchError, UploadTimeoutError)
LOOK = {"parameters": [CALLER]}
CONTENT: Responses = {200: {"description": "The file's bytes, as they were uploaded.", "content": {JSON_LINES: {}}}}


@router.post(
    "",
    responses={
        **shape(FileAnswer),
        **door_errors(*UPLOAD_ERRORS),
    },
    openapi_extra={**UPLOAD, "parameters": [IDEMPOTENCY_KEY]},
)
async def create_file(request: Request) -> Response:
    """Upload a file of JSON lines. It passes through to the object store, so it may be larger than other bodies."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.SUBMIT)
    origin = origin_of(request, key.caller_id)
    try:
        row, is_new = await api.files.receive(request, origin)
    except ClientDisconnect:
        return Response(status_code=CLIENT_LEFT)
    return json_answer(file_view(row), 200, replayed(is_new))


@router.get("", responses={**shape(FileList), **door_errors()}, openapi_extra=query(FileQuery))
async def list_files(request: Request) -> Response:
    """List your files."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.READ)
    wanted = read_query(FileQuery, request)
    found = await api.files.page(wanted.as_filter(await api.keys.caller_of(key, wanted.caller or None)))
    return await asyncio.to_thread(lambda: json_answer(page_view(found, wanted.limit)))  # up to ten thousand


@router.get("/{file_id}", responses={**shape(FileAnswer), **door_errors(NotFoundError)}, openapi_extra=LOOK)
async def get_file(request: Request, file_id: str) -> Response:
    """Look at a file."""
    api = api_of(request)
    return json_answer(file_view(await api.files.find(file_id, await _owner(api, request, Scope.READ))))


@router.get("/{file_id}/content", responses={**CONTENT, **door_errors(NotFoundError)}, openapi_extra=LOOK)
async def get_file_content(request: Request, file_id: str) -> Response:
    """Download a file."""
    api = api_of(request)
    file = await api.files.find(file_id, await _owner(api, request, Scope.READ))
    headers = {
        "Content-Length": str(file.bytes),
        "Content-Disposition": disposition(file.filename),
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(await api.files.open(file), headers=headers, media_type=JSON_LINES)


@router.delete(
    "/{file_id}", responses={**shape(FileDeletion), **door_errors(NotFoundError, ConflictError)}, openapi_extra=LOOK
)
async def delete_file(request: Request, file_id: str) -> Response:
    """Delete a file. One that a batch still needs stays until the batch has ended."""
    api = api_of(request)
    await api.files.delete(file_id, await _owner(api, request, Scope.SUBMIT))
    return json_answer({"id": file_id, "object": "file", "deleted": True})


async def _owner(api: Api, request: Request, scope: Scope) -> str:
    """Return whose files a request is about."""
    key = await api.keys.authenticate(request, scope)
    return await api.keys.caller_of(key, request.query_params.get("caller"))
