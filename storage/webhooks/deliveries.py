"""The log of deliveries as callers see it: list, look, replay, test."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from schemas.webhooks import DeliveryStatus
from storage.clock import db_now
from storage.tables import webhook_attempts, webhook_deliveries
from storage.webhooks.endpoints import Endpoint

TEST_EVENT = "webhook.test"
IS_PENDING = webhook_deliveries.c.status == sa.literal_column(f"'{DeliveryStatus.PENDING.value}'")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of `webhook_deliveries`, whole, in the order of its columns."""

    id: str
    caller_id: str
    endpoint_id: str | None
    url: str | None
    origin: str
    event: str
    job_id: str | None
    status: str
    attempts: int
    tries: int
    next_at: float | None
    fence: int
    occurred_at: float
    ended_at: float | None
    last_status: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """A row of `webhook_attempts`, whole, in the order of its columns."""

    delivery_id: str
    number: int
    at: float
    status: int | None
    latency_ms: float
    error: str | None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries a list shows, newest first."""

    caller_id: str
    limit: int
    after: str | None = None
    job_id: str | None = None
    endpoint_id: str | None = None
    event: str | None = None
    status: str | None = None
    occurred_after: float | None = None
    occurred_before: float | None = None


def page(connection: sa.Connection, wanted: DeliveryFilter) -> list[Delivery]:
    """Return up to limit + 1 deliveries, newest first: the one too many says that there are more."""
    columns = webhook_deliveries.c
    query = sa.select(webhook_deliveries).where(columns.caller_id == wanted.caller_id)
    for name in ("job_id", "endpoint_id", "event", "status"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(columns[name] == value)
    if wanted.after is not None:
        query = query.where(columns.id < wanted.after)
    if wanted.occurred_after is not None:
        query = query.where(columns.occurred_at >= wanted.occurred_after)
    if wanted.occurred_before is not None:
        query = query.where(columns.occurred_at < wanted.occurred_before)
    return [Delivery(*row) for row in connection.execute(query.order_by(columns.id.desc()).limit(wanted.limit + 1))]


def find(connection: sa.Connection, delivery_id: str, caller_id: str) -> tuple[Delivery, list[AttemptRow]] | None:
    """Return a caller's delivery with all its attempts, in their order."""
    which = sa.and_(webhook_deliveries.c.id == delivery_id, webhook_deliveries.c.caller_id == caller_id)
    row = connection.execute(sa.select(webhook_deliveries).where(which)).one_or_none()
    if row is None:
        return None
    tried = sa.select(webhook_attempts).where(webhook_attempts.c.delivery_id == delivery_id)
    ordered = connection.execute(tried.order_by(webhook_attempts.c.number))
    return Delivery(*row), [AttemptRow(*attempt) for attempt in ordered]


def replay(connection: sa.Connection, delivery_id: str, caller_id: str) -> bool:
    """Send a delivery again, from the start of the schedule, under the same id; False when there is none."""
    which = sa.and_(webhook_deliveries.c.id == delivery_id, webhook_deliveries.c.caller_id == caller_id)
    return _again(connection, which) == 1


def replay_since(connection: sa.Connection, endpoint_id: str, since: float) -> int:
    """Send an endpoint again what happened since then and never arrived; return how many these are."""
    return _again(
        connection,
        sa.and_(
            webhook_deliveries.c.endpoint_id == endpoint_id,
            webhook_deliveries.c.occurred_at >= since,
            webhook_deliveries.c.status == DeliveryStatus.EXHAUSTED.value,
        ),
    )


def add_test(connection: sa.Connection, delivery_id: str, endpoint: Endpoint) -> None:
    """Have an endpoint sent an event that means nothing."""
    connection.execute(
        sa.insert(webhook_deliveries).values(
            id=delivery_id,
            caller_id=endpoint.caller_id,
            endpoint_id=endpoint.id,
            origin=endpoint.origin,
            event=TEST_EVENT,
            status=DeliveryStatus.PENDING.value,
            attempts=0,
            tries=0,
            fence=0,
            next_at=db_now(),
            occurred_at=db_now(),
        )
    )


def forget(connection: sa.Connection, kept_seconds: float, limit: int) -> int:
    """Delete deliveries that ended long ago, with their attempts; return how many."""
    old = sa.select(webhook_deliveries.c.id).where(webhook_deliveries.c.ended_at <= db_now() - kept_seconds)
    ids = list(connection.execute(old.limit(limit)).scalars())
    connection.execute(sa.delete(webhook_attempts).where(webhook_attempts.c.delivery_id.in_(ids)))
    connection.execute(sa.delete(webhook_deliveries).where(webhook_deliveries.c.id.in_(ids)))
    return len(ids)


def _again(connection: sa.Connection, which: sa.ColumnElement[bool]) -> int:
    """Begin anew; whoever is sending one of them right now is fenced off."""
    statement = sa.update(webhook_deliveries).where(which)
    values = {"status": DeliveryStatus.PENDING.value, "tries": 0, "next_at": db_now(), "ended_at": None}
    return connection.execute(statement.values(**values, fence=webhook_deliveries.c.fence + 1)).rowcount
