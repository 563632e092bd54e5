"""Workers' rows: who is there, what it holds, how long its lease lasts, and what happens to a lost one's jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from schemas.errors import WorkerLostError
from schemas.jobs import LOST_LIMIT, Status
from storage import batch_lines
from storage.clock import db_now
from storage.jobs import RUNNING, untouched
from storage.rows import Ended, to_json
from storage.tables import jobs, workers


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A row of `workers`, whole, in the order of its columns."""

    id: str
    model: str
    device: str
    queue: str
    host: str
    pid: int
    state: str
    slots: int
    in_flight: int
    drain_requested: int
    started_at: float
    beat_at: float
    lease_until: float
    stats: str | None


@dataclass(frozen=True, slots=True)
class NewWorker:
    """A worker that introduces itself, with the queue that it will serve."""

    id: str
    kind: str
    model: str
    device: str
    queue: str
    host: str
    pid: int
    state: str
    slots: int


def register(connection: sa.Connection, worker: NewWorker, lease_seconds: float) -> None:
    """Write a worker's row under an id that was never used: from here on it is seen, and its lease runs."""
    connection.execute(
        sa.insert(workers).values(
            id=worker.id,
            model=worker.model,
            device=worker.device,
            queue=worker.queue,
            host=worker.host,
            pid=worker.pid,
            state=worker.state,
            slots=worker.slots,
            in_flight=0,
            drain_requested=0,
            started_at=db_now(),
            beat_at=db_now(),
            lease_until=db_now() + lease_seconds,
        )
    )


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker says of itself every third of its lease."""

    worker_id: str
    lease_seconds: float
    state: str
    in_flight: int
    stats: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """A running job as SQL sees it."""

    job_id: str
    attempt: int
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a beat brings back: whether the lease still stood, what SQL thinks the worker holds, and orders."""

    alive: bool
    drain_requested: bool = False
    held: tuple[Held, ...] = ()
    lines: Mapping[int, int] = field(default_factory=dict)
    """The running lines of batches, each with its attempt."""


def beat(connection: sa.Connection, said: Sequence[Beat]) -> list[Pulse]:
    """Extend leases; a worker that was declared lost finds no row and must begin anew."""
    return [_beat(connection, one) for one in said]


def _beat(connection: sa.Connection, said: Beat) -> Pulse:
    statement = (
        sa.update(workers)
        .where(workers.c.id == said.worker_id)
        .values(
            lease_until=db_now() + said.lease_seconds,
            beat_at=db_now(),
            state=said.state,
            in_flight=said.in_flight,
            stats=said.stats,
        )
        .returning(workers.c.drain_requested)
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return Pulse(alive=False)
    holding = sa.select(jobs.c.id, jobs.c.attempt, jobs.c.cancel_requested).where(
        jobs.c.owner == said.worker_id, RUNNING
    )
    held = tuple(Held(one.id, one.attempt, bool(one.cancel_requested)) for one in connection.execute(holding))
    lines = batch_lines.held_by(connection, said.worker_id)
    return Pulse(alive=True, drain_requested=bool(row.drain_requested), held=held, lines=lines)


def leave(connection: sa.Connection, worker_id: str) -> None:
    """Take a worker's row away: it holds nothing any more."""
    connection.execute(sa.delete(workers).where(workers.c.id == worker_id))


def request_drain(connection: sa.Connection, worker_id: str) -> bool:
    """Ask a worker to finish what it holds and stop; False when there is none of this id."""
    statement = sa.update(workers).where(workers.c.id == worker_id).values(drain_requested=1)
    return connection.execute(statement).rowcount == 1


IS_SILENT = workers.c.lease_until < db_now()


SILENT = sa.select(workers.c.id).where(IS_SILENT)
LIVING = sa.select(workers).where(workers.c.lease_until >= db_now()).order_by(workers.c.queue, workers.c.id)


def silent(connection: sa.Connection) -> list[str]:
    """Return the workers whose lease ran out."""
    return list(connection.execute(SILENT).scalars())


GONE = sa.select(jobs.c.owner).distinct().where(RUNNING, jobs.c.owner.not_in(sa.select(workers.c.id)))


def requeue_lost(connection: sa.Connection, suspected: Collection[str] | None = None) -> list[Ended]:
    """Take the jobs of every worker whose lease ran out; return all that changed, requeued or ended.

    With `suspected`, only those of the silent ones are lost. It looks for running jobs without an owner, not for the
    jobs of the rows it deletes: so a claim by a worker that was just declared lost is found too, one tick later.
    """
    if suspected is None or suspected:
        is_lost = IS_SILENT if suspected is None else sa.and_(IS_SILENT, workers.c.id.in_(suspected))
        expired = sa.select(workers.c.id).where(is_lost).with_for_update(skip_locked=True)
        connection.execute(sa.delete(workers).where(workers.c.id.in_(expired)))
    # Found in a statement of its own: an id that is gone stays gone, while an UPDATE that meets a row which has just
    # changed hands would compare its new owner with the workers of a moment ago.
    owners = connection.execute(GONE).scalars().all()
    return _requeue(connection, owners) if owners else []


def _requeue(connection: sa.Connection, owners: Sequence[str | None]) -> list[Ended]:
    lost = jobs.c.lost + 1
    is_canceled, is_exhausted = jobs.c.cancel_requested == 1, lost >= LOST_LIMIT
    ends = sa.or_(is_canceled, is_exhausted)
    statement = (
        sa.update(jobs)
        .where(jobs.c.id.in_(untouched(RUNNING, jobs.c.owner.in_(owners))))
        .values(
            status=sa.case(
                (is_canceled, Status.CANCELED.value),
                (is_exhausted, Status.FAILED.value),
                else_=Status.QUEUED.value,
            ),
            lost=lost,
            owner=None,
            error=sa.case((sa.and_(~is_canceled, is_exhausted), to_json(WorkerLostError().as_job_error()))),
            finished_at=sa.case((ends, db_now())),
            retained_until=sa.case((ends, db_now() + jobs.c.retention_seconds)),
        )
        .returning(jobs.c.id, jobs.c.status, jobs.c.attempt, jobs.c.queue)
    )
    return [Ended(*row) for row in connection.execute(statement)]


def living(connection: sa.Connection) -> list[WorkerRow]:
    """Return the workers whose lease runs."""
    return [WorkerRow(*row) for row in connection.execute(LIVING)]
