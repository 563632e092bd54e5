"""Jobs as their callers touch them: submit, read, list, cancel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.dml import ReturningUpdate

from schemas.jobs import Status
from storage.clock import db_now
from storage.dialects import insert_new
from storage.idempotency import Admitted, Wish, forget, meet
from storage.rows import Ended, JobRow
from storage.statements import Statement
from storage.tables import IS_CLAIMABLE, job_inputs, jobs, webhook_endpoints

# Statuses are literals: a plan that serves every parameter cannot use an index that is for one status.
WAITING = jobs.c.status == sa.literal_column(f"'{Status.QUEUED.value}'")
RUNNING = jobs.c.status == sa.literal_column(f"'{Status.RUNNING.value}'")
STILL_RUNNING = RUNNING.is_(sa.true())
"""The fence's half of RUNNING: IS TRUE keeps Postgres off the index of running jobs, a job has one id."""
VISIBLE = jobs.c.deleted_at.is_(None)


@dataclass(slots=True)  # frozen, making one would cost eight times as much
class NewJob:
    """A row to be, as admission made it."""

    id: str
    caller_id: str
    kind: str
    model: str
    revision: str
    queue: str
    rank: float
    priority: str
    max_attempts: int
    run_at: float | None
    expires_at: float
    timeout_seconds: float
    retention_seconds: float
    created_at: float
    metadata: str | None
    retry_of: str | None
    request_id: str | None
    webhook: str | None = None
    prefill_tokens: int | None = None
    max_new_tokens: int | None = None
    adapters: str | None = None
    pixel_steps: int | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A new job, its input (text or the object that holds it) and what makes it idempotent."""

    job: NewJob
    input: str | None
    object_key: str | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""


BORN = {"status": Status.QUEUED.value, "attempt": 0, "lost": 0, "errors": 0, "cancel_requested": 0}
SAID = tuple(field.name for field in fields(NewJob))
COPIED = tuple(name for name in SAID if name != "webhook")
# A caller with endpoints waits for the events of every job; who has none pays for one look into an index.
WEBHOOK = sa.func.coalesce(
    sa.bindparam("own_webhook", type_=sa.Text),
    sa.select(sa.func.max(webhook_endpoints.c.links))
    .where(webhook_endpoints.c.caller_id == sa.bindparam("of_caller"))
    .scalar_subquery(),
)
INSERT_JOB = Statement(
    lambda dialect: insert_new(jobs, dialect).values(webhook=WEBHOOK), (*COPIED, *BORN, "queued_at")
)
INSERT_INPUT = Statement(lambda dialect: insert_new(job_inputs, dialect), ("job_id", "input", "object_key"))


def submit(connection: sa.Connection, submissions: Sequence[Submission]) -> list[Admitted]:
    """Insert jobs with their inputs; a known idempotency key inserts nothing."""
    answers = [_admit(connection, submission) for submission in submissions]
    fresh = [one for one, answer in zip(submissions, answers, strict=True) if answer.is_new]
    if fresh:
        INSERT_JOB.run_all(connection, [_row_of(one.job) for one in fresh])
        inputs = [{"job_id": one.job.id, "input": one.input, "object_key": one.object_key} for one in fresh]
        INSERT_INPUT.run_all(connection, inputs)
    return answers


def _row_of(job: NewJob) -> dict[str, Any]:
    said = {name: getattr(job, name) for name in COPIED}
    hooks = {"own_webhook": job.webhook, "of_caller": job.caller_id}
    return {**said, **BORN, **hooks, "queued_at": job.run_at or job.created_at}


def _admit(connection: sa.Connection, submission: Submission) -> Admitted:
    job = submission.job
    if submission.idempotency_key is None:
        return Admitted(job.id, is_new=True)
    return meet(
        connection, Wish(job.caller_id, submission.idempotency_key, submission.fingerprint, job.id, job.created_at)
    )


FIND = sa.select(jobs).where(jobs.c.id == sa.bindparam("job_id"), VISIBLE)


def find(connection: sa.Connection, job_id: str, caller_id: str | None = None) -> JobRow | None:
    """Return a visible job; of that caller only, when one is named."""
    row = connection.execute(FIND, {"job_id": job_id}).one_or_none()
    return JobRow(*row) if row and caller_id in (None, row.caller_id) else None


OF_ALL: sa.BindParameter[Any] = sa.bindparam("job_ids", expanding=True)
FIND_ALL = (
    sa.select(jobs, job_inputs.c.input)
    .join(job_inputs, job_inputs.c.job_id == jobs.c.id, isouter=True)
    .where(jobs.c.id.in_(OF_ALL), VISIBLE)
)


def find_all(connection: sa.Connection, job_ids: Sequence[str]) -> dict[str, tuple[JobRow, str | None]]:
    """Return visible jobs by their ids, each with its input's text; a statement's own cost is that of many rows."""
    return {row[0]: (JobRow(*row[:-1]), row[-1]) for row in connection.execute(FIND_ALL, {"job_ids": job_ids})}


FIND_INPUT = sa.select(job_inputs.c.input, job_inputs.c.object_key).where(
    job_inputs.c.job_id == sa.bindparam("job_id")
)


def find_input(connection: sa.Connection, job_id: str) -> tuple[str | None, str | None] | None:
    """Return the input's text and object key; nothing when it was erased."""
    row = connection.execute(FIND_INPUT, {"job_id": job_id}).one_or_none()
    return (row.input, row.object_key) if row else None


STATUSES = sa.select(jobs.c.id, jobs.c.status).where(jobs.c.id.in_(OF_ALL))


def statuses(connection: sa.Connection, job_ids: Sequence[str]) -> dict[str, str]:
    """Return the status of each job that exists."""
    return {row[0]: row[1] for row in connection.execute(STATUSES, {"job_ids": job_ids})}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs a list shows, newest first."""

    caller_id: str
    limit: int
    after: str | None = None
    status: str | None = None
    kind: str | None = None
    model: str | None = None
    queue: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    metadata: tuple[tuple[str, str], ...] = ()


SQLITE_HAS_METADATA = sa.text("""
    EXISTS (
        SELECT 1 FROM json_each(jobs.metadata) AS entry
        WHERE entry.key = :key AND :value = CASE entry.type
            WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(entry.value AS TEXT) END)""")


def page(connection: sa.Connection, wanted: Filter) -> list[JobRow]:
    """Return up to limit + 1 jobs, newest first: the one too many says that there are more."""
    query = sa.select(jobs).where(jobs.c.caller_id == wanted.caller_id, VISIBLE)
    for column in ("status", "kind", "model", "queue"):
        value = getattr(wanted, column)
        if value is not None:
            query = query.where(jobs.c[column] == value)
    if wanted.after is not None:
        query = query.where(jobs.c.id < wanted.after)
    if wanted.created_after is not None:
        query = query.where(jobs.c.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        query = query.where(jobs.c.created_at < wanted.created_before)
    for key, value in wanted.metadata:
        query = query.where(_has_metadata(connection.dialect.name, key, value))
    return [JobRow(*row) for row in connection.execute(query.order_by(jobs.c.id.desc()).limit(wanted.limit + 1))]


def _has_metadata(dialect: str, key: str, value: str) -> sa.ColumnElement[bool] | sa.TextClause:
    """Compare a top-level entry, whatever characters its key has: a string as it is, others by their JSON."""
    if dialect == "sqlite":
        return SQLITE_HAS_METADATA.bindparams(
            sa.bindparam("key", key, unique=True), sa.bindparam("value", value, unique=True)
        )
    return sa.func.json_extract_path_text(sa.cast(jobs.c.metadata, sa.JSON), key) == value


def count_waiting(connection: sa.Connection, caller_id: str, limit: int) -> int:
    """Return how many jobs of a caller wait, counting no further than limit."""
    waiting = sa.select(jobs.c.id).where(jobs.c.caller_id == caller_id, WAITING).limit(limit).subquery()
    return connection.execute(sa.select(sa.func.count()).select_from(waiting)).scalar_one()


def count_ahead(connection: sa.Connection, queue: str, rank: float, limit: int) -> int:
    """Return how many claimable jobs of a queue rank before this one, counting no further than limit."""
    return count_up_to(connection, limit, *claimable_in(queue), jobs.c.rank < rank)


def claimable_in(queue: str) -> tuple[sa.ColumnElement[bool], sa.TextClause]:
    """Say which jobs of a queue a claim could take."""
    return jobs.c.queue == queue, IS_CLAIMABLE


def count_up_to(connection: sa.Connection, limit: int, *which: sa.ColumnElement[bool] | sa.TextClause) -> int:
    """Count jobs of a queue, no further than limit."""
    return connection.execute(counted_up_to(limit, jobs, *which)).scalar_one()


def counted_up_to(
    limit: int | sa.BindParameter[int], table: sa.Table, *which: sa.ColumnElement[bool] | sa.TextClause
) -> sa.Select[int]:
    """Count rows of a queue, no further than limit; the order by rank makes Postgres take the queue's own index."""
    rows = sa.select(table.c.id).where(*which).order_by(table.c.rank).limit(limit).subquery()
    return sa.select(sa.func.count()).select_from(rows)


@dataclass(frozen=True, slots=True)
class Canceled:
    """What a cancel did: the job ended at once, or its owner must be told."""

    ended: Ended | None = None
    owner: str | None = None
    attempt: int = 0


CANCEL = (
    sa.update(jobs)
    .where(jobs.c.id == sa.bindparam("job_id"), WAITING | RUNNING)
    .values(
        cancel_requested=1,
        status=sa.case((WAITING, Status.CANCELED.value), else_=jobs.c.status),
        finished_at=sa.case((WAITING, db_now())),
        retained_until=sa.case((WAITING, db_now() + jobs.c.retention_seconds)),
    )
    .returning(jobs.c.id, jobs.c.status, jobs.c.attempt, jobs.c.queue, jobs.c.owner)
)


def cancel(connection: sa.Connection, job_id: str) -> Canceled:
    """Cancel a queued job, or ask the owner of a running one to stop; a terminal one stays as it is.

    One statement: between two, a claim or a hand-back could slip through both.
    """
    row = connection.execute(CANCEL, {"job_id": job_id}).one_or_none()
    if row is None:
        return Canceled()
    if row.status == Status.CANCELED.value:
        return Canceled(ended=Ended(row.id, row.status, row.attempt, row.queue))
    return Canceled(owner=row.owner, attempt=row.attempt)


def abandon(connection: sa.Connection, job_id: str, caller_id: str, key: str | None) -> Canceled:
    """Cancel a job whose answer nobody waits for; its idempotency key may make another one, unless it has ended."""
    canceled = cancel(connection, job_id)
    if key is not None and canceled != Canceled():
        forget(connection, caller_id, key, job_id)
    return canceled


def ending_queued(
    which: sa.ColumnElement[bool], status: Status, error: str | None = None, limit: int | None = None
) -> ReturningUpdate[tuple[Any, ...]]:
    """Make the statement that ends queued jobs which match, up to limit; its rows are made `Ended`."""
    return (
        sa.update(jobs)
        .where(jobs.c.id.in_(untouched(WAITING, which, limit=limit)))
        .values(
            status=status.value,
            error=error,
            finished_at=db_now(),
            retained_until=db_now() + jobs.c.retention_seconds,
        )
        .returning(jobs.c.id, jobs.c.status, jobs.c.attempt, jobs.c.queue)
    )


def untouched(*which: sa.ColumnElement[bool], limit: int | None = None) -> sa.Select[tuple[str]]:
    """Select the ids of jobs that nobody is changing at this moment: many rows are never waited for.

    Two that wait for each other's rows are a deadlock; what is skipped has just been dealt with, or is met next time.
    """
    return sa.select(jobs.c.id).where(*which).limit(limit).with_for_update(skip_locked=True)
