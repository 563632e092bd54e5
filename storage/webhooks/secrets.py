"""Signing secrets: a caller's own and each endpoint's, with the one before it for as long as both sign."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from storage.clock import db_now
from storage.dialects import insert_new
from storage.tables import webhook_secrets

PREFIX = "whsec_"
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secret that signs now, and the one before it while it still does."""

    current: str
    previous: str | None = None
    previous_until: float | None = None

    def signing(self, now: float) -> list[str]:
        """Return every secret that signs at this moment, the newest first."""
        is_overlap = self.previous is not None and self.previous_until is not None and now < self.previous_until
        return [self.current, self.previous] if is_overlap and self.previous else [self.current]


def make_secret() -> str:
    """Return a new secret as Standard Webhooks writes it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def ensure(connection: sa.Connection, caller_ids: Collection[str]) -> None:
    """Make a secret for each caller that has none."""
    rows = [{"caller_id": caller_id, "secret": make_secret()} for caller_id in sorted(caller_ids)]
    if rows:
        connection.execute(insert_new(webhook_secrets, connection.dialect.name), rows)


def of_callers(connection: sa.Connection, caller_ids: Collection[str]) -> dict[str, Secrets]:
    """Return the secrets of callers that have some."""
    query = sa.select(webhook_secrets).where(webhook_secrets.c.caller_id.in_(caller_ids))
    return {row.caller_id: Secrets(*row[1:]) for row in connection.execute(query)}


def of_caller(connection: sa.Connection, caller_id: str) -> Secrets:
    """Return a caller's secrets; the first who asks makes the first one."""
    ensure(connection, [caller_id])
    return of_callers(connection, [caller_id])[caller_id]


def rotate(connection: sa.Connection, caller_id: str, overlap_seconds: float) -> Secrets:
    """Give a caller a new secret; the old one signs beside it for a while."""
    ensure(connection, [caller_id])
    connection.execute(
        sa.update(webhook_secrets).where(webhook_secrets.c.caller_id == caller_id).values(**rotated(overlap_seconds))
    )
    return of_caller(connection, caller_id)


def rotated(overlap_seconds: float) -> dict[str, object]:
    """Return what a rotation writes, in this table and in that of endpoints."""
    return {
        "secret": make_secret(),
        "previous_secret": sa.column("secret"),
        "previous_until": db_now() + overlap_seconds,
    }
