"""Who is calling: API keys, looked up in SQL and remembered for a moment."""

from __future__ import annotations

import time
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from starlette.requests import Request

from producer_api.headers import header_of
from schemas.errors import ForbiddenError, NotFoundError, UnauthenticatedError
from storage import callers
from storage.callers import KeyRow, NewKey, hash_key
from storage.database import Database

KNOWN_SECONDS = 3.0
"""A revoked key may still open this process for so long; five seconds are promised."""
UNKNOWN_SECONDS = 1.0
REMEMBERED_KEYS = 10_000
KEY_CHARACTERS = 200
DAY_SECONDS = 86_400


class Scope(StrEnum):
    """What a key may do."""

    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"


class Keys:
    """The keys that were used lately."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: dict[str, tuple[float, KeyRow | None]] = {}

    async def authenticate(self, request: Request, scope: Scope) -> KeyRow:
        """Return the key of a request if it has the scope; what it belongs to is noted for the log."""
        kind, _, secret = (header_of(request.scope, b"authorization") or "").partition(" ")
        if kind.lower() != "bearer" or not secret:
            raise UnauthenticatedError
        key = await self._find(secret.strip())
        if key is None:
            raise UnauthenticatedError(
                "This API key is unknown, revoked or expired; send a valid one in 'Authorization: Bearer …'."
            )
        request.scope["caller_id"] = key.caller_id
        if scope not in key.scopes:
            raise ForbiddenError(f"This API key lacks the scope '{scope}'; use a key that has it.")
        return key

    async def caller_of(self, key: KeyRow, name: str | None) -> str:
        """Return whose things a key looks at: its own caller's, or those of `name` for an admin."""
        if name is None or name == key.caller:
            return key.caller_id
        if Scope.ADMIN not in key.scopes:
            raise ForbiddenError("Only a key with the scope 'admin' may name another caller; leave '?caller=' out.")
        found = await self._database.aread(lambda connection: callers.find_caller(connection, name))
        if found is None:
            raise NotFoundError(f"There is no caller '{name[:100]}'; GET /v1/keys names those that have keys.")
        return found

    async def _find(self, secret: str) -> KeyRow | None:
        if len(secret) > KEY_CHARACTERS:
            return None
        name, now = hash_key(secret), time.monotonic()
        good_until, key = self._remembered.get(name, (0.0, None))
        if good_until > now:
            return key
        key = await self._database.aread(lambda connection: callers.find_valid_key(connection, secret))
        if len(self._remembered) >= REMEMBERED_KEYS:
            self._remembered.clear()
        self._remembered[name] = (now + (KNOWN_SECONDS if key else UNKNOWN_SECONDS), key)
        return key


def make_key(
    connection: Any, caller: str, name: str, scopes: Iterable[str], expires_at: float | None = None
) -> NewKey:
    """Make a key for a caller, who is made with it when the name is new."""
    caller_id = callers.ensure_caller(connection, caller)
    return callers.create_key(connection, caller_id, name, frozenset(scopes), expires_at)
