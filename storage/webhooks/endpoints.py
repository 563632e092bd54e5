"""Endpoints: where a caller wants the events of all its jobs to go."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from schemas.webhooks import DeliveryStatus
from storage.clock import db_now
from storage.jobs import RUNNING, WAITING, untouched
from storage.tables import IS_UNFINISHED, batches, jobs, webhook_deliveries, webhook_endpoints
from storage.webhooks.secrets import Secrets, make_secret, rotated

FAILING_DAYS = 5
FAILING_SECONDS = FAILING_DAYS * 86_400
GONE = "It answered 410 Gone, so it wants no more events. Enable it again when it does."
FAILED_TOO_LONG = (
    f"Every delivery failed for {FAILING_DAYS} days. Mend it, enable it again, and replay what it missed."
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A row of `webhook_endpoints`, whole, in the order of its columns."""

    id: str
    caller_id: str
    url: str
    origin: str
    events: str
    description: str
    enabled: int
    disabled_reason: str | None
    secret: str
    previous_secret: str | None
    previous_until: float | None
    failing_since: float | None
    links: str
    created_at: float

    @property
    def secrets(self) -> Secrets:
        """Return what signs its deliveries."""
        return Secrets(self.secret, self.previous_secret, self.previous_until)


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """An endpoint to be; `links` is `{base}`, what the links in its deliveries begin with."""

    id: str
    caller_id: str
    url: str
    origin: str
    events: str
    description: str
    links: str


def create(connection: sa.Connection, new: NewEndpoint, limit: int) -> Endpoint | None:
    """Register an endpoint and have the caller's unfinished jobs and batches look for it.

    None when there are `limit` already.
    """
    owned = sa.select(sa.func.count()).where(webhook_endpoints.c.caller_id == new.caller_id)
    if connection.execute(owned).scalar_one() >= limit:
        return None
    said = {name: getattr(new, name) for name in NewEndpoint.__slots__}
    connection.execute(
        sa.insert(webhook_endpoints).values(**said, enabled=1, secret=make_secret(), created_at=db_now())
    )
    running = sa.select(batches.c.number).where(
        batches.c.caller_id == new.caller_id, IS_UNFINISHED, batches.c.webhook.is_(None)
    )
    locked = connection.execute(running.order_by(batches.c.number).with_for_update()).scalars().all()
    connection.execute(sa.update(batches).where(batches.c.number.in_(locked)).values(webhook=new.links))
    for unfinished in (WAITING, RUNNING):
        silent = untouched(jobs.c.caller_id == new.caller_id, unfinished, jobs.c.webhook.is_(None))
        connection.execute(sa.update(jobs).where(jobs.c.id.in_(silent)).values(webhook=new.links))
    return find(connection, new.id, new.caller_id)


def find(connection: sa.Connection, endpoint_id: str, caller_id: str) -> Endpoint | None:
    """Return a caller's endpoint."""
    which = sa.and_(webhook_endpoints.c.id == endpoint_id, webhook_endpoints.c.caller_id == caller_id)
    row = connection.execute(sa.select(webhook_endpoints).where(which)).one_or_none()
    return Endpoint(*row) if row else None


def of_caller(connection: sa.Connection, caller_id: str) -> list[Endpoint]:
    """Return a caller's endpoints, newest first."""
    query = sa.select(webhook_endpoints).where(webhook_endpoints.c.caller_id == caller_id)
    return [Endpoint(*row) for row in connection.execute(query.order_by(webhook_endpoints.c.id.desc()))]


def by_id(connection: sa.Connection, ids: Collection[str]) -> dict[str, Endpoint]:
    """Return those endpoints that there are."""
    query = sa.select(webhook_endpoints).where(webhook_endpoints.c.id.in_(ids))
    return {row.id: Endpoint(*row) for row in connection.execute(query)}


def change(connection: sa.Connection, endpoint: Endpoint, changes: dict[str, object]) -> Endpoint:
    """Change an endpoint; enabling it forgets why it was disabled, another address takes what waits along."""
    values = dict(changes)
    if values.get("enabled"):
        values |= {"disabled_reason": None, "failing_since": None}
    if values:
        connection.execute(sa.update(webhook_endpoints).where(webhook_endpoints.c.id == endpoint.id).values(**values))
    if "origin" in values:
        connection.execute(
            sa.update(webhook_deliveries).where(_waiting_for(endpoint.id)).values(origin=values["origin"])
        )
    if values.get("enabled") == 0:
        end_waiting(connection, endpoint.id, "The endpoint was disabled.")
    return by_id(connection, [endpoint.id])[endpoint.id]


def rotate(connection: sa.Connection, endpoint_id: str, overlap_seconds: float) -> Endpoint:
    """Give an endpoint a new secret; the old one signs beside it for a while."""
    which = webhook_endpoints.c.id == endpoint_id
    connection.execute(sa.update(webhook_endpoints).where(which).values(**rotated(overlap_seconds)))
    return by_id(connection, [endpoint_id])[endpoint_id]


def delete(connection: sa.Connection, endpoint_id: str) -> None:
    """Delete an endpoint; what waits for it is given up."""
    end_waiting(connection, endpoint_id, "The endpoint was deleted.")
    connection.execute(sa.delete(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id))


def disable(connection: sa.Connection, endpoint_id: str, reason: str) -> None:
    """Stop sending to an endpoint, and say why."""
    which = sa.and_(webhook_endpoints.c.id == endpoint_id, webhook_endpoints.c.enabled == 1)
    connection.execute(sa.update(webhook_endpoints).where(which).values(enabled=0, disabled_reason=reason))
    end_waiting(connection, endpoint_id, reason)


def note_failure(connection: sa.Connection, endpoint_id: str) -> None:
    """Remember since when everything fails; disable the endpoint when that is too long ago."""
    since = sa.func.coalesce(webhook_endpoints.c.failing_since, db_now())
    which = webhook_endpoints.c.id == endpoint_id
    noted = sa.update(webhook_endpoints).where(which).values(failing_since=since)
    how_long = connection.execute(noted.returning(db_now() - webhook_endpoints.c.failing_since)).scalar_one_or_none()
    if how_long is not None and how_long > FAILING_SECONDS:
        disable(connection, endpoint_id, FAILED_TOO_LONG)


def note_success(connection: sa.Connection, endpoint_id: str) -> None:
    """Forget earlier failures."""
    which = sa.and_(webhook_endpoints.c.id == endpoint_id, webhook_endpoints.c.failing_since.is_not(None))
    connection.execute(sa.update(webhook_endpoints).where(which).values(failing_since=None))


def end_waiting(connection: sa.Connection, endpoint_id: str, why: str) -> None:
    """Give up what waits for an endpoint."""
    connection.execute(
        sa.update(webhook_deliveries)
        .where(_waiting_for(endpoint_id))
        .values(status=DeliveryStatus.EXHAUSTED.value, next_at=None, ended_at=db_now(), last_error=why)
    )


def _waiting_for(endpoint_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        webhook_deliveries.c.endpoint_id == endpoint_id, webhook_deliveries.c.status == DeliveryStatus.PENDING.value
    )
