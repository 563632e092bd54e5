"""Jobs as workers touch them: claim, finish, release; each fenced by the attempt that the claim took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from schemas.jobs import Status
from storage.clock import NOW, db_now
from storage.jobs import STILL_RUNNING
from storage.rows import ClaimedJob
from storage.tables import jobs

CLAIMED = (
    "id, attempt, kind, model, queue, caller_id, lost, errors, max_attempts, timeout_seconds, "
    "retention_seconds, rank, queued_at, started_at, request_id"
)
PICK = """
    SELECT id FROM jobs
    WHERE queue = :queue AND status = 'queued' AND run_at IS NULL AND {lane} AND expires_at > {now}
      AND NOT EXISTS (SELECT 1 FROM queues WHERE name = :queue AND paused = 1)
    ORDER BY rank LIMIT :limit"""
TAKE = """
    UPDATE jobs SET status = 'running', owner = :owner, attempt = attempt + 1, started_at = {now}
    WHERE {chosen} RETURNING """
MORE = """
    SELECT 1 FROM jobs WHERE queue = :queue AND status = 'queued' AND run_at IS NULL AND {lane} LIMIT 1"""
WITH_INPUTS = """
    WITH taken AS ({take})
    SELECT taken.*, job_inputs.input, job_inputs.object_key
    FROM taken JOIN job_inputs ON job_inputs.job_id = taken.id"""
CLEAN = "lost = 0"
SUSPECT = "lost > 0 AND lost <= :most_lost"


@dataclass(frozen=True, slots=True)
class Claim:
    """A wish for up to `limit` jobs of a queue; `most_lost` > 0 asks for suspects instead of clean jobs."""

    queue: str
    owner: str
    limit: int = 1
    most_lost: int = 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """The jobs that a wish got, best first, and whether its queue has more."""

    jobs: list[ClaimedJob]
    more: bool


def claim(connection: sa.Connection, wishes: Sequence[Claim]) -> list[Claimed]:
    """Give each wish the best rows of its queue; wishes for the same rows share one statement."""
    together: dict[tuple[str, str, int], list[int]] = {}
    for index, wish in enumerate(wishes):
        together.setdefault((wish.queue, wish.owner, wish.most_lost), []).append(index)
    answers: list[Claimed] = [Claimed([], more=False)] * len(wishes)
    for (queue, owner, most_lost), indexes in together.items():
        wanted = Claim(queue, owner, sum(wishes[index].limit for index in indexes), most_lost)
        taken = _take(connection, wanted)
        more = len(taken) == wanted.limit and has_more(connection, queue, most_lost)
        for index in indexes:
            share, taken = taken[: wishes[index].limit], taken[wishes[index].limit :]
            answers[index] = Claimed(share, more)
    return answers


def has_more(connection: sa.Connection, queue: str, most_lost: int = 0) -> bool:
    """Say whether a queue holds a row that a claim could take: a read, so an empty queue costs no write lock."""
    statement = _statements(connection.dialect.name, suspects=most_lost > 0)[1]
    return connection.execute(statement, {"queue": queue, "most_lost": most_lost}).first() is not None


def _take(connection: sa.Connection, wish: Claim) -> list[ClaimedJob]:
    take = _statements(connection.dialect.name, suspects=wish.most_lost > 0)[0]
    parameters = {"queue": wish.queue, "owner": wish.owner, "limit": wish.limit, "most_lost": wish.most_lost}
    rows: list[Sequence[Any]] = list(connection.execute(take, parameters))
    if rows and connection.dialect.name == "sqlite":  # which cannot join what an UPDATE returns
        found = connection.execute(INPUTS, {"ids": [row[0] for row in rows]})
        inputs = {row.job_id: (row.input, row.object_key) for row in found}
        rows = [(*row, *inputs[row[0]]) for row in rows]
    return sorted((ClaimedJob(*row) for row in rows), key=lambda job: job.rank)


INPUTS = sa.text("SELECT job_id, input, object_key FROM job_inputs WHERE job_id IN :ids").bindparams(
    bindparam("ids", expanding=True)
)


@cache
def _statements(dialect: str, *, suspects: bool) -> tuple[sa.TextClause, sa.TextClause]:
    now, lane = NOW[dialect], SUSPECT if suspects else CLEAN
    pick = PICK.format(lane=lane, now=now)
    more = sa.text(MORE.format(lane=lane))
    if dialect == "sqlite":
        return sa.text(TAKE.format(now=now, chosen=f"id IN ({pick})") + CLAIMED), more
    take = TAKE.format(now=now, chosen=f"id = ANY(ARRAY({pick} FOR UPDATE SKIP LOCKED))") + CLAIMED
    return sa.text(WITH_INPUTS.format(take=take)), more


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ends its job; JSON as text."""

    job_id: str
    attempt: int
    status: Status
    output: str | None = None
    artifacts: str | None = None
    error: str | None = None
    usage: str | None = None
    metrics: str | None = None


HELD = (jobs.c.id == bindparam("job_id"), jobs.c.attempt == bindparam("held_attempt"), STILL_RUNNING)
FINISH = (
    sa.update(jobs)
    .where(*HELD)
    .values(
        status=bindparam("new_status"),
        finished_at=db_now(),
        retained_until=db_now() + jobs.c.retention_seconds,
        output=bindparam("new_output"),
        artifacts=bindparam("new_artifacts"),
        error=bindparam("new_error"),
        usage=bindparam("new_usage"),
        metrics=bindparam("new_metrics"),
    )
)


def finish(connection: sa.Connection, endings: Sequence[Ending]) -> list[bool]:
    """End jobs; False means that this attempt was replaced and its result must be dropped."""
    return [
        connection.execute(
            FINISH,
            {
                "job_id": ending.job_id,
                "held_attempt": ending.attempt,
                "new_status": ending.status.value,
                "new_output": ending.output,
                "new_artifacts": ending.artifacts,
                "new_error": ending.error,
                "new_usage": ending.usage,
                "new_metrics": ending.metrics,
            },
        ).rowcount
        == 1
        for ending in endings
    ]


@dataclass(frozen=True, slots=True)
class Release:
    """An attempt gives its job back: after a drain at once, after a retryable error later and counted."""

    job_id: str
    attempt: int
    run_again_in_seconds: float | None = None
    counts_as_error: bool = False


AFTER_RELEASE = sa.case((jobs.c.cancel_requested == 1, Status.CANCELED.value), else_=Status.QUEUED.value)


def release(connection: sa.Connection, releases: Sequence[Release]) -> list[str | None]:
    """Give jobs back; the answer is each one's new status, or None when this attempt was replaced."""
    return [_release(connection, one) for one in releases]


def _release(connection: sa.Connection, one: Release) -> str | None:
    delay = one.run_again_in_seconds
    is_canceled = jobs.c.cancel_requested == 1
    statement = (
        sa.update(jobs)
        .where(jobs.c.id == one.job_id, jobs.c.attempt == one.attempt, STILL_RUNNING)
        .values(
            status=AFTER_RELEASE,
            owner=None,
            errors=jobs.c.errors + int(one.counts_as_error),
            run_at=None if delay is None else sa.case((~is_canceled, db_now() + delay)),
            finished_at=sa.case((is_canceled, db_now())),
            retained_until=sa.case((is_canceled, db_now() + jobs.c.retention_seconds)),
        )
        .returning(jobs.c.status)
    )
    return connection.execute(statement).scalar_one_or_none()
