"""Callers and their API keys: the key is shown once, SQL keeps its hash."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from schemas.ids import new_id
from storage.clock import db_now
from storage.dialects import insert_new
from storage.tables import api_keys, callers

KEY_PREFIX = "sk-stoker-"


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A row of `api_keys` without its hash, and its caller's name."""

    id: str
    caller_id: str
    caller: str
    hint: str
    name: str
    scopes: frozenset[str]
    created_at: float
    expires_at: float | None
    revoked_at: float | None


COLUMNS = (
    api_keys.c.id,
    api_keys.c.caller_id,
    callers.c.name.label("caller"),
    api_keys.c.hint,
    api_keys.c.name,
    api_keys.c.scopes,
    api_keys.c.created_at,
    api_keys.c.expires_at,
    api_keys.c.revoked_at,
)
KEYS = sa.select(*COLUMNS).join(callers, callers.c.id == api_keys.c.caller_id)


def _key_row(row: sa.Row[*tuple[Any, ...]]) -> KeyRow:
    return KeyRow(
        id=row.id,
        caller_id=row.caller_id,
        caller=row.caller,
        hint=row.hint,
        name=row.name,
        scopes=frozenset(row.scopes.split()),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def hash_key(key: str) -> str:
    """Return what SQL keeps of a key: it has 256 random bits, so a plain hash cannot be searched."""
    return hashlib.sha256(key.encode()).hexdigest()


def ensure_caller(connection: sa.Connection, name: str) -> str:
    """Return the id of the caller of that name; make it when it is new."""
    row = {"id": new_id("caller"), "name": name, "created_at": time.time()}
    connection.execute(insert_new(callers, connection.dialect.name), row)
    caller_id: str = connection.execute(sa.select(callers.c.id).where(callers.c.name == name)).scalar_one()
    return caller_id


def find_caller(connection: sa.Connection, name: str) -> str | None:
    """Return the id of the caller of that name."""
    return connection.execute(sa.select(callers.c.id).where(callers.c.name == name)).scalar_one_or_none()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made; `secret` is never seen again."""

    id: str
    secret: str


def create_key(
    connection: sa.Connection, caller_id: str, name: str, scopes: frozenset[str], expires_at: float | None
) -> NewKey:
    """Make a key for a caller."""
    key = NewKey(new_id("key"), KEY_PREFIX + secrets.token_urlsafe(32))
    connection.execute(
        sa.insert(api_keys).values(
            id=key.id,
            caller_id=caller_id,
            hash=hash_key(key.secret),
            hint=key.secret[-4:],
            name=name,
            scopes=" ".join(sorted(scopes)),
            created_at=db_now(),
            expires_at=expires_at,
        )
    )
    return key


def find_valid_key(connection: sa.Connection, secret: str) -> KeyRow | None:
    """Return the key behind a secret, unless it is revoked or expired."""
    is_valid = sa.and_(
        api_keys.c.hash == hash_key(secret),
        api_keys.c.revoked_at.is_(None),
        sa.or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > db_now()),
    )
    row = connection.execute(KEYS.where(is_valid)).one_or_none()
    return _key_row(row) if row else None


def list_keys(connection: sa.Connection, caller_id: str | None) -> list[KeyRow]:
    """Return a caller's keys, or everybody's, newest first."""
    query = KEYS if caller_id is None else KEYS.where(api_keys.c.caller_id == caller_id)
    return [_key_row(row) for row in connection.execute(query.order_by(api_keys.c.id.desc()))]


def revoke_key(connection: sa.Connection, key_id: str) -> bool:
    """End a key's life; False when there is no such key."""
    when = sa.func.coalesce(api_keys.c.revoked_at, db_now())
    revoking = sa.update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=when)
    return connection.execute(revoking).rowcount == 1
