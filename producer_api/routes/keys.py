"""API keys: made and revoked by admins, so that whoever finds a key can neither outlive nor lock out its owner."""

from __future__ import annotations

import time

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.authentication import DAY_SECONDS, Scope, make_key
from producer_api.body import read_as
from producer_api.documents import KeyList, NewKeyAnswer
from producer_api.openapi import answers, body, errors
from producer_api.state import Admin, ApiHere, Reader
from schemas.base import JsonObject, Strict
from schemas.errors import ForbiddenError, InvalidError, NotFoundError
from storage import callers
from storage.callers import KeyRow
from tasks.views import moment

router = APIRouter(prefix="/v1/keys", tags=["keys"])

EXAMPLE = {"name": "nightly import", "scopes": ["submit", "read"], "expires_in_days": 30}


class KeyRequest(Strict):
    """The key that is wanted."""

    name: str = Field(min_length=1, max_length=200, description="What the key is for.")
    scopes: list[Scope] = Field(min_length=1, description="At most those of the key that asks.")
    expires_in_days: float | None = Field(None, gt=0, le=3650)
    caller: str | None = Field(
        None, min_length=1, max_length=200, description="Whose jobs it sees: the asking key's caller when unset."
    )


WANTED = {"requestBody": body("KeyRequest", {"a month": {"value": EXAMPLE}})}


@router.post("", status_code=201, responses=answers(201, NewKeyAnswer), openapi_extra=WANTED)
async def create_key(request: Request, api: ApiHere, key: Admin) -> Response:
    """Make a key. Its secret is in this answer and never again."""
    wanted = await read_as(KeyRequest, request)
    if missing := set(wanted.scopes) - key.scopes:
        raise ForbiddenError(f"A key may not give what it lacks: take {', '.join(sorted(missing))} out of 'scopes'.")
    expires_at = _expiry(wanted, key)
    caller = wanted.caller or key.caller
    made = await api.services.database.atransact(
        lambda connection: make_key(connection, caller, wanted.name, wanted.scopes, expires_at)
    )
    view = {
        "id": made.id,
        "object": "key",
        "key": made.secret,
        "name": wanted.name,
        "caller": caller,
        "scopes": sorted(wanted.scopes),
        "expires_at": moment(expires_at),
    }
    return json_answer(view, 201)


def _expiry(wanted: KeyRequest, key: KeyRow) -> float | None:
    """Return when the new key ends; one that ends itself makes none that outlives it."""
    if wanted.expires_in_days is None:
        return key.expires_at
    expires_at = time.time() + wanted.expires_in_days * DAY_SECONDS
    if key.expires_at is not None and expires_at > key.expires_at:
        raise InvalidError(
            f"A key may not make one that outlives it: it ends {moment(key.expires_at)}; ask for fewer days.",
            param="expires_in_days",
        )
    return expires_at


@router.get("", responses=answers(200, KeyList, NotFoundError))
async def list_keys(api: ApiHere, key: Reader, caller: str | None = None) -> Response:
    """List the keys of your caller, newest first; an admin may name another with `?caller=`, or `*` for all."""
    whose = None if caller == "*" and Scope.ADMIN in key.scopes else await api.keys.caller_of(key, caller)
    rows = await api.services.database.aread(lambda connection: callers.list_keys(connection, whose))
    return json_answer({"object": "list", "data": [key_view(row) for row in rows]})


@router.delete("/{key_id}", status_code=204, responses=errors(NotFoundError))
async def revoke_key(api: ApiHere, _key: Admin, key_id: str) -> Response:
    """Revoke anybody's key; within five seconds it opens nothing."""
    if not await api.services.database.atransact(lambda connection: callers.revoke_key(connection, key_id)):
        raise NotFoundError(f"There is no key '{key_id[:100]}'; GET /v1/keys?caller=* lists those there are.")
    return Response(status_code=204)


def key_view(row: KeyRow) -> JsonObject:
    """Return a key without its secret."""
    return {
        "id": row.id,
        "object": "key",
        "name": row.name,
        "caller": row.caller,
        "hint": f"…{row.hint}",
        "scopes": sorted(row.scopes),
        "created_at": moment(row.created_at),
        "expires_at": moment(row.expires_at),
        "revoked_at": moment(row.revoked_at),
    }
