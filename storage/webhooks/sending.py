"""Deliveries as the sender touches them: which receivers have some due, claim by lease, record what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from schemas.webhooks import BATCH_EVENTS, DeliveryStatus
from storage.batches import BatchRow
from storage.clock import NOW, db_now
from storage.rows import JobRow
from storage.tables import batches, job_inputs, jobs, webhook_attempts, webhook_deliveries
from storage.webhooks import endpoints, secrets
from storage.webhooks.deliveries import IS_PENDING, Delivery
from storage.webhooks.endpoints import Endpoint
from storage.webhooks.secrets import Secrets

# One step per receiver, however many deliveries each has: DISTINCT would read them all.
ORIGINS = """
    WITH RECURSIVE receivers (origin) AS (
      SELECT min(origin) FROM webhook_deliveries WHERE status = 'pending'
      UNION ALL
      SELECT (SELECT min(origin) FROM webhook_deliveries WHERE status = 'pending' AND origin > receivers.origin)
      FROM receivers WHERE receivers.origin IS NOT NULL
    )
    SELECT origin FROM receivers WHERE EXISTS (
      SELECT 1 FROM webhook_deliveries AS due
      WHERE due.status = 'pending' AND due.origin = receivers.origin AND due.next_at <= {now})"""
DUE = """
    SELECT id FROM webhook_deliveries
    WHERE origin = {origin} AND status = 'pending' AND next_at <= {now} ORDER BY next_at LIMIT {places}"""
TAKE = """
    UPDATE webhook_deliveries SET next_at = {now} + :lease, fence = fence + 1 WHERE {which}
    RETURNING id, caller_id, endpoint_id, url, origin, event, job_id, status, attempts, tries, next_at, fence,
      occurred_at, ended_at, last_status, last_error"""
ALL_WISHES = """id = ANY(ARRAY(
      SELECT due.id FROM unnest(CAST(:origins AS text[]), CAST(:places AS int[])) AS wish (origin, places)
      CROSS JOIN LATERAL ({due} FOR UPDATE SKIP LOCKED) AS due))"""


def due_origins(connection: sa.Connection) -> list[str]:
    """Return the receivers that have something due."""
    return list(connection.execute(sa.text(ORIGINS.format(now=NOW[connection.dialect.name]))).scalars())


@dataclass(frozen=True, slots=True)
class Wish:
    """Up to so many due deliveries of each origin, for so many seconds."""

    places: Mapping[str, int]
    lease_seconds: float


def claim(connection: sa.Connection, wishes: Sequence[Wish]) -> list[list[Delivery]]:
    """Grant wishes one after the other; who does not record in time what he took loses it again."""
    return [_claim(connection, wish.places, wish.lease_seconds) for wish in wishes]


def _claim(connection: sa.Connection, wishes: Mapping[str, int], lease_seconds: float) -> list[Delivery]:
    now = NOW[connection.dialect.name]
    if connection.dialect.name == "postgresql":
        which = ALL_WISHES.format(due=DUE.format(now=now, origin="wish.origin", places="wish.places"))
        given = {"origins": [*wishes], "places": [*wishes.values()], "lease": lease_seconds}
        rows = list(connection.execute(sa.text(TAKE.format(now=now, which=which)), given))
    else:
        which = f"id IN ({DUE.format(now=now, origin=':origin', places=':places')})"
        take = sa.text(TAKE.format(now=now, which=which))
        rows = [
            row
            for origin, places in wishes.items()
            for row in connection.execute(take, {"origin": origin, "places": places, "lease": lease_seconds})
        ]
    return [Delivery(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Context:
    """What deliveries are rendered and signed with, read in one go."""

    jobs: Mapping[str, JobRow]
    batches: Mapping[str, BatchRow]
    inputs: Mapping[str, str]
    endpoints: Mapping[str, Endpoint]
    secrets: Mapping[str, Secrets]


def context(connection: sa.Connection, claimed: Sequence[Delivery]) -> Context:
    """Read everything that these deliveries are about."""
    job_ids = {one.job_id for one in claimed if one.job_id}
    given = sa.select(job_inputs.c.job_id, job_inputs.c.input).where(job_inputs.c.job_id.in_(job_ids))
    which = sa.select(batches).where(batches.c.id.in_({one.job_id for one in claimed if one.event in BATCH_EVENTS}))
    return Context(
        jobs={row.id: JobRow(*row) for row in connection.execute(sa.select(jobs).where(jobs.c.id.in_(job_ids)))},
        batches={row.id: BatchRow(*row) for row in connection.execute(which)},
        inputs={row.job_id: row.input for row in connection.execute(given) if row.input is not None},
        endpoints=endpoints.by_id(connection, {one.endpoint_id for one in claimed if one.endpoint_id}),
        secrets=secrets.of_callers(connection, {one.caller_id for one in claimed if one.endpoint_id is None}),
    )


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one attempt: `next_in_seconds` is None when it was the last."""

    delivery: Delivery
    status: int | None
    latency_ms: float
    error: str | None
    is_delivered: bool = False
    next_in_seconds: float | None = None
    is_gone: bool = False
    """The receiver wants nothing any more."""
    was_failing: bool = False
    """Its endpoint had failed before."""


def record(connection: sa.Connection, results: Sequence[Result]) -> list[bool]:
    """Write attempts down; False means that somebody else has the delivery by now."""
    return [_record(connection, result) for result in results]


def _record(connection: sa.Connection, result: Result) -> bool:
    delivery, delay = result.delivery, result.next_in_seconds
    ended = DeliveryStatus.DELIVERED if result.is_delivered else DeliveryStatus.EXHAUSTED
    table = webhook_deliveries
    statement = (
        sa.update(table)
        .where(table.c.id == delivery.id, table.c.fence == delivery.fence, IS_PENDING.is_(sa.true()))
        .values(
            status=(ended if delay is None else DeliveryStatus.PENDING).value,
            attempts=table.c.attempts + 1,
            tries=table.c.tries + 1,
            next_at=None if delay is None else db_now() + delay,
            ended_at=db_now() if delay is None else None,
            last_status=result.status,
            last_error=result.error,
        )
    )
    if connection.execute(statement).rowcount != 1:
        return False
    connection.execute(
        sa.insert(webhook_attempts).values(
            delivery_id=delivery.id,
            number=delivery.attempts + 1,
            at=db_now(),
            status=result.status,
            latency_ms=result.latency_ms,
            error=result.error,
        )
    )
    _judge_endpoint(connection, result)
    return True


def _judge_endpoint(connection: sa.Connection, result: Result) -> None:
    endpoint_id = result.delivery.endpoint_id
    if endpoint_id is None:
        return
    if result.is_gone:
        endpoints.disable(connection, endpoint_id, endpoints.GONE)
    elif not result.is_delivered:
        endpoints.note_failure(connection, endpoint_id)
    elif result.was_failing:
        endpoints.note_success(connection, endpoint_id)
