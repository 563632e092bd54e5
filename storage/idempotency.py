"""Idempotency keys: the first request that brings one makes something, later ones meet what it made."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from schemas.errors import IdempotencyMismatchError
from storage.dialects import insert_or_meet
from storage.tables import idempotency_keys


@dataclass(frozen=True, slots=True)
class Admitted:
    """What now stands for a request: what it makes itself, or what its idempotency key named before."""

    job_id: str
    is_new: bool
    same_request: bool = True


@dataclass(frozen=True, slots=True)
class Wish:
    """A request that would make something of this id."""

    caller_id: str
    key: str
    fingerprint: str
    made_id: str
    at: float


def forget(connection: sa.Connection, caller_id: str, key: str, made_id: str) -> None:
    """Let a key make something anew; one that stands for something else by now stays."""
    which = (idempotency_keys.c.caller_id == caller_id, idempotency_keys.c.key == key)
    connection.execute(sa.delete(idempotency_keys).where(*which, idempotency_keys.c.job_id == made_id))


def meet(connection: sa.Connection, wish: Wish) -> Admitted:
    """Take a key for what is about to be made, or find what it stands for."""
    row = {
        "caller_id": wish.caller_id,
        "key": wish.key,
        "fingerprint": wish.fingerprint,
        "job_id": wish.made_id,
        "created_at": wish.at,
    }
    known = connection.execute(insert_or_meet(idempotency_keys, connection.dialect.name), row).one()
    return Admitted(known.job_id, known.job_id == wish.made_id, known.fingerprint == wish.fingerprint)


def made_before(connection: sa.Connection, wish: Wish) -> str | None:
    """Take a key; return the id of what the same request made before, and refuse another request."""
    admitted = meet(connection, wish)
    if not admitted.same_request:
        raise IdempotencyMismatchError(param="Idempotency-Key")
    return None if admitted.is_new else admitted.job_id
