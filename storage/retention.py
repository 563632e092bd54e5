"""The end of things: expiry, the release of scheduled jobs, and erasing what is past its retention."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from schemas.errors import ModelRemovedError
from schemas.jobs import TERMINAL, Status
from storage.clock import db_now
from storage.jobs import WAITING, ending_queued, untouched
from storage.rows import Ended, to_json
from storage.tables import idempotency_keys, job_inputs, jobs

IS_TERMINAL = jobs.c.status.in_([status.value for status in TERMINAL])


SWEEP_LIMIT = 5_000
"""Rows per statement: a million that come due at once must not hold the writers up for a minute."""


# What is looked for every second is laid out once.
EXPIRE = ending_queued(jobs.c.expires_at <= db_now(), Status.EXPIRED, limit=SWEEP_LIMIT)
DUE = untouched(WAITING, jobs.c.run_at.is_not(None), jobs.c.run_at <= db_now(), limit=SWEEP_LIMIT)
RELEASE = sa.update(jobs).where(jobs.c.id.in_(DUE)).values(run_at=None).returning(jobs.c.queue)


def expire(connection: sa.Connection) -> list[Ended]:
    """End jobs that waited longer than their ttl."""
    return [Ended(*row) for row in connection.execute(EXPIRE)]


def fail_removed_models(connection: sa.Connection, known: Sequence[str]) -> list[Ended]:
    """End jobs that wait for a model that the catalog has lost."""
    error = to_json(ModelRemovedError().as_job_error())
    ending = ending_queued(jobs.c.model.not_in(known), Status.FAILED, error, limit=SWEEP_LIMIT)
    return [Ended(*row) for row in connection.execute(ending)]


def release_scheduled(connection: sa.Connection) -> list[str]:
    """Let jobs whose run_at has come be claimed; return the queues that got some."""
    return sorted(set(connection.execute(RELEASE).scalars()))


def past_retention(connection: sa.Connection, limit: int) -> dict[str, bool]:
    """Return jobs whose bytes were kept as long as promised, each with whether its rows name objects."""
    due = sa.and_(jobs.c.erased_at.is_(None), jobs.c.retained_until.is_not(None), jobs.c.retained_until <= db_now())
    has_objects = sa.or_(jobs.c.artifacts != "[]", job_inputs.c.object_key.is_not(None))
    query = sa.select(jobs.c.id, has_objects).outerjoin_from(jobs, job_inputs, job_inputs.c.job_id == jobs.c.id)
    return {job_id: bool(has) for job_id, has in connection.execute(query.where(due).limit(limit))}


def erase(connection: sa.Connection, job_ids: Sequence[str], *, hide: bool) -> list[str]:
    """Erase what terminal jobs took and gave; `hide` makes the rows invisible too. Return the ids it met.

    The rows' own columns go first and the objects after it: an object that is left is an orphan for the sweep,
    a pointer to nothing would be a lie.
    """
    values: dict[str, object] = {"erased_at": db_now(), "output": None, "artifacts": None}
    if hide:
        values |= {"deleted_at": db_now(), "metadata": None}
    statement = sa.update(jobs).where(jobs.c.id.in_(job_ids), IS_TERMINAL).values(**values).returning(jobs.c.id)
    erased = list(connection.execute(statement).scalars())
    connection.execute(sa.delete(job_inputs).where(job_inputs.c.job_id.in_(erased)))
    return erased


def forget(connection: sa.Connection, rows_kept_seconds: float, keys_kept_seconds: float, limit: int) -> int:
    """Delete rows of jobs erased long ago and old idempotency keys, up to limit of each; return how many."""
    old = sa.select(jobs.c.id).where(jobs.c.erased_at <= db_now() - rows_kept_seconds).limit(limit)
    gone = connection.execute(sa.delete(jobs).where(jobs.c.id.in_(old))).rowcount
    is_alive = sa.exists().where(jobs.c.id == idempotency_keys.c.job_id, ~IS_TERMINAL)
    is_old = idempotency_keys.c.created_at <= db_now() - keys_kept_seconds
    keys = sa.select(idempotency_keys.c.caller_id, idempotency_keys.c.key).where(is_old, ~is_alive).limit(limit)
    which = sa.tuple_(idempotency_keys.c.caller_id, idempotency_keys.c.key).in_(keys)
    return gone + connection.execute(sa.delete(idempotency_keys).where(which)).rowcount


def referenced_objects(connection: sa.Connection, job_ids: Sequence[str]) -> dict[str, bool]:
    """For each job that has a row: whether it may still have objects."""
    rows = connection.execute(sa.select(jobs.c.id, jobs.c.erased_at).where(jobs.c.id.in_(job_ids)))
    return {row.id: row.erased_at is None for row in rows}
