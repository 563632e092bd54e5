"""Jobs as workers touch them: claim, finish, release; each fenced by the attempt that the claim took."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache

import sqlalchemy as sa
from sqlalchemy import bindparam

from schemas.jobs import Status
from storage.clock import NOW, db_now
from storage.jobs import STILL_RUNNING
from storage.rows import ClaimedJob
from storage.statements import Statement
from storage.tables import jobs

CLAIMED = """
    RETURNING id, attempt, kind, model, queue, caller_id, lost, errors, max_attempts, timeout_seconds,
      retention_seconds, rank, queued_at, started_at, request_id, webhook, prefill_tokens, max_new_tokens,
      (SELECT input FROM job_inputs WHERE job_id = jobs.id),
      (SELECT object_key FROM job_inputs WHERE job_id = jobs.id)"""
PICK = """
    SELECT id FROM jobs
    WHERE queue = :queue AND status = 'queued' AND run_at IS NULL AND {lane} AND expires_at > {now}
      AND NOT EXISTS (SELECT 1 FROM queues WHERE name = :queue AND paused = 1)
    ORDER BY rank LIMIT :limit"""
TAKE = """
    UPDATE jobs SET status = 'running', owner = :owner, attempt = attempt + 1, started_at = {now}
    WHERE {chosen}"""
MORE = """
    SELECT 1 FROM jobs WHERE queue = :queue AND status = 'queued' AND run_at IS NULL AND {lane}
    ORDER BY rank LIMIT 1"""
LOOKED_AT = 32
RANK_GAP_SECONDS = 2.0
"""A job may be overtaken by one that is so much younger at most: then nobody overtakes it any more."""
CLEAN = "lost = 0"
SUSPECT = "lost > 0 AND lost <= :most_lost"


@dataclass(frozen=True, slots=True)
class Claim:
    """A wish for up to `limit` jobs of a queue; `most_lost` > 0 asks for suspects instead of clean jobs.

    With `resident`, jobs whose adapters are among these may overtake others that are not much before them.
    """

    queue: str
    owner: str
    limit: int = 1
    most_lost: int = 0
    resident: frozenset[str] | None = None


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
    for (queue, _, most_lost), indexes in together.items():
        limit = sum(wishes[index].limit for index in indexes)
        wanted = replace(wishes[indexes[0]], limit=limit)
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
    dialect = connection.dialect.name
    parameters: dict[str, object] = {"queue": wish.queue, "owner": wish.owner}
    if wish.resident is not None and not wish.most_lost and wish.limit < LOOKED_AT:
        look, take = _near_statements(dialect)
        best = [Near(*row) for row in connection.execute(look, {"queue": wish.queue, "limit": LOOKED_AT})]
        chosen = nearest(best, wish.resident)[: wish.limit]
        ids = [one.id for one in chosen]
        parameters["chosen"] = json.dumps(ids) if dialect == "sqlite" else ids
    else:
        take = _statements(dialect, suspects=wish.most_lost > 0)[0]
        parameters |= {"limit": wish.limit, "most_lost": wish.most_lost}
    taken = [ClaimedJob(*row) for row in connection.execute(take, parameters)]
    return sorted(taken, key=lambda job: job.rank)


@dataclass(frozen=True, slots=True)
class Near:
    """One of the best jobs of a queue."""

    id: str
    rank: float
    adapters: str | None


def nearest(best: Sequence[Near], resident: frozenset[str]) -> list[Near]:
    """Return jobs in the order in which they should run: those that make an engine load something wait a little."""

    def cost(job: Near) -> float:
        is_here = job.adapters is None or resident.issuperset(job.adapters.split())
        return job.rank if is_here else job.rank + RANK_GAP_SECONDS

    return sorted(best, key=cost)


@cache
def _near_statements(dialect: str) -> tuple[sa.TextClause, sa.TextClause]:
    """Return what looks at the best jobs, and what takes some of them."""
    now = NOW[dialect]
    look = PICK.replace("SELECT id FROM", "SELECT id, rank, adapters FROM").format(lane=CLEAN, now=now)
    if dialect == "sqlite":
        chosen = "id IN (SELECT value FROM json_each(:chosen))"
        return sa.text(look), sa.text(TAKE.format(now=now, chosen=chosen) + CLAIMED)
    take = TAKE.format(now=now, chosen="id = ANY(:chosen)") + CLAIMED
    return sa.text(f"{look} FOR UPDATE SKIP LOCKED"), sa.text(take)


@cache
def _statements(dialect: str, *, suspects: bool) -> tuple[sa.TextClause, sa.TextClause]:
    now, lane = NOW[dialect], SUSPECT if suspects else CLEAN
    pick = PICK.format(lane=lane, now=now)
    chosen = f"id IN ({pick})" if dialect == "sqlite" else f"id = ANY(ARRAY({pick} FOR UPDATE SKIP LOCKED))"
    return sa.text(TAKE.format(now=now, chosen=chosen) + CLAIMED), sa.text(MORE.format(lane=lane))


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


ENDING = tuple(field.name for field in fields(Ending))
STORED = ("id", *ENDING[1:])
OUTCOME = ENDING[2:]
FINISH = Statement(
    lambda _dialect: (
        sa.update(jobs)
        .where(jobs.c.id == bindparam("job_id"), jobs.c.attempt == bindparam("held_attempt"), STILL_RUNNING)
        .values(
            finished_at=db_now(),
            retained_until=db_now() + jobs.c.retention_seconds,
            **{name: bindparam(f"new_{name}") for name in OUTCOME},
        )
    ),
    (),
)
FINISH_GROUP = """
    UPDATE jobs SET finished_at = {now}, retained_until = {now} + retention_seconds,
      status = new.status, output = new.output, artifacts = new.artifacts, error = new.error, usage = new.usage,
      metrics = new.metrics
    FROM unnest(
      %(job_id)s::text[], %(attempt)s::int[], %(status)s::text[], %(output)s::text[], %(artifacts)s::text[],
      %(error)s::text[], %(usage)s::text[], %(metrics)s::text[]
    ) WITH ORDINALITY AS new (job_id, attempt, status, output, artifacts, error, usage, metrics, place)
    WHERE jobs.id = new.job_id AND jobs.attempt = new.attempt AND (jobs.status = 'running') IS TRUE
    RETURNING new.place"""


def finish(connection: sa.Connection, endings: Sequence[Ending]) -> list[bool]:
    """End jobs; False means that this attempt was replaced and its result must be dropped.

    An ending that was written before is true again: the commit whose answer was lost is simply repeated.
    """
    if len(endings) > 1 and connection.dialect.name == "postgresql":
        columns = {name: [getattr(ending, name) for ending in endings] for name in ENDING}
        statement = FINISH_GROUP.format(now=NOW["postgresql"])
        places = set(connection.exec_driver_sql(statement, columns).scalars())
        ended = [place in places for place in range(1, len(endings) + 1)]
    else:
        ended = [_finish(connection, ending) for ending in endings]
    return ended if all(ended) else _with_repeated(connection, endings, ended)


def _finish(connection: sa.Connection, ending: Ending) -> bool:
    outcome = {f"new_{name}": getattr(ending, name) for name in OUTCOME}
    return FINISH.run(connection, {"job_id": ending.job_id, "held_attempt": ending.attempt, **outcome}).rowcount == 1


def _with_repeated(connection: sa.Connection, endings: Sequence[Ending], ended: Sequence[bool]) -> list[bool]:
    missed = [ending.job_id for ending, is_ended in zip(endings, ended, strict=True) if not is_ended]
    query = sa.select(*(jobs.c[name] for name in STORED)).where(jobs.c.id.in_(missed))
    stored = {tuple(row) for row in connection.execute(query)}
    return [
        is_ended or tuple(getattr(ending, name) for name in ENDING) in stored
        for ending, is_ended in zip(endings, ended, strict=True)
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
