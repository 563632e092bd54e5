"""The library of adapters: upload, import, list, look, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.body import read_as
from producer_api.doors import CLIENT_LEFT
from producer_api.lora_documents import (
    LoraAnswer,
    LoraDeletion,
    LoraForm,
    LoraImport,
    LoraList,
    LoraQuery,
    LoraUpload,
    LoraUploadRequest,
)
from producer_api.openapi import Responses, answers, body, errors, shape
from producer_api.state import ApiHere, Reader, ReadOwner, SteeredOwner, Submitter, base_of
from schemas.base import JsonObject
from schemas.errors import (
    ConflictError,
    MalformedError,
    ModelNotFoundError,
    NotFoundError,
    TooLargeError,
    TooManyError,
    UploadTimeoutError,
    UrlRefusedError,
)

router = APIRouter(prefix="/v1/loras", tags=["loras"])

FILE = {"file": {"type": "string", "format": "binary", "description": "The .safetensors file."}}
FORM: JsonObject = LoraForm.model_json_schema()
FORM = {**FORM, "properties": {**FORM["properties"], **FILE}, "required": [*FORM["required"], "file"]}
UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}}}
EXAMPLE = {"model": "sketch", "name": "comic", "sha256": "0" * 64}
FROM = {"url": "https://example.com/comic.safetensors"}
IMPORT = {"requestBody": body("LoraImport", {"from the web": {"value": {**EXAMPLE, **FROM}}})}
SIGNED = {"requestBody": body("LoraUploadRequest", {"a large file": {"value": {**EXAMPLE, "bytes": 700_000_000}}})}
MADE: Responses = {
    **shape(LoraAnswer, 201),
    200: {"model": LoraAnswer, "description": "It was there already, under this name and with these bytes."},
    **errors(MalformedError, ModelNotFoundError, ConflictError, TooLargeError, UploadTimeoutError, TooManyError),
}


@router.post("", status_code=201, responses=MADE, openapi_extra=UPLOAD)
async def upload_lora(request: Request, api: ApiHere, key: Submitter) -> Response:
    """Upload an adapter as a safetensors file. Each of its tensors must have its layer in the model."""
    try:
        row, is_new = await api.loras.receive(request, key)
    except ClientDisconnect:
        return Response(status_code=CLIENT_LEFT)
    return json_answer(await api.loras.find(row.id, key.caller_id), 201 if is_new else 200)


@router.post("/import", status_code=201, responses={**MADE, **errors(UrlRefusedError)}, openapi_extra=IMPORT)
async def import_lora(request: Request, api: ApiHere, key: Submitter) -> Response:
    """Fetch an adapter from a public https:// address, or from a bucket that the operator lists."""
    row, is_new = await api.lora_sources.fetch(await read_as(LoraImport, request), key)
    return json_answer(await api.loras.find(row.id, key.caller_id), 201 if is_new else 200)


@router.post(
    "/uploads",
    status_code=201,
    responses=answers(201, LoraUpload, ModelNotFoundError, ConflictError, TooLargeError, TooManyError),
    openapi_extra=SIGNED,
)
async def begin_lora_upload(request: Request, api: ApiHere, key: Submitter) -> Response:
    """Get an address to which you can PUT a large file of exactly so many bytes; then call `complete_url`."""
    wanted = await read_as(LoraUploadRequest, request)
    return json_answer(await api.lora_sources.begin(wanted, key, base_of(request)), 201)


@router.post("/uploads/{lora_id}/complete", status_code=201, responses={**MADE, **errors(NotFoundError)})
async def complete_lora_upload(api: ApiHere, key: Submitter, lora_id: str) -> Response:
    """Have what you PUT judged; from then on it is an adapter like any other."""
    row, is_new = await api.lora_sources.complete(lora_id, key)
    return json_answer(await api.loras.find(row.id, key.caller_id), 201 if is_new else 200)


@router.get("", responses=answers(200, LoraList))
async def list_loras(api: ApiHere, key: Reader, query: Annotated[LoraQuery, Query()]) -> Response:
    """List the adapters that you may use: the catalog's, then yours and everybody's, newest first."""
    return json_answer(await api.loras.page(query, await api.keys.caller_of(key, query.caller)))


@router.get("/{lora_id}", responses=answers(200, LoraAnswer, NotFoundError))
async def get_lora(api: ApiHere, owner: ReadOwner, lora_id: str) -> Response:
    """Look at an adapter."""
    return json_answer(await api.loras.find(lora_id, owner))


@router.delete("/{lora_id}", responses=answers(200, LoraDeletion, NotFoundError, ConflictError))
async def delete_lora(api: ApiHere, key: Submitter, owner: SteeredOwner, lora_id: str) -> Response:
    """Delete an adapter: it can be named no more, and jobs that were submitted with it still run.

    An upload that was begun and not completed is given up the same way.
    """
    await api.loras.delete(lora_id, key, owner)
    return json_answer({"id": lora_id, "object": "lora", "deleted": True})
