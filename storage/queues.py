"""Queues as SQL sees them: which there are, how deep each is, whether it is paused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from schemas.jobs import Status
from storage.dialects import insert_new
from storage.jobs import WAITING, end_queued
from storage.rows import Ended
from storage.tables import jobs, queues


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A row of `queues`, whole, in the order of its columns."""

    name: str
    kind: str
    model: str
    device: str
    paused: int


@dataclass(frozen=True, slots=True)
class Depth:
    """How many jobs of a queue are in which state."""

    claimable: int = 0
    suspects: int = 0
    scheduled: int = 0
    running: int = 0

    @property
    def queued(self) -> int:
        """Return how many jobs have the status `queued`."""
        return self.claimable + self.suspects + self.scheduled


def declare(connection: sa.Connection, rows: Sequence[QueueRow]) -> None:
    """Make sure that queues have a row; an existing one keeps its pause."""
    if rows:
        values = [
            {
                "name": row.name,
                "kind": row.kind,
                "model": row.model,
                "device": row.device,
                "paused": row.paused,
            }
            for row in rows
        ]
        connection.execute(insert_new(queues, connection.dialect.name), values)


def all_queues(connection: sa.Connection) -> list[QueueRow]:
    """Return every queue that was ever declared."""
    return [QueueRow(*row) for row in connection.execute(sa.select(queues).order_by(queues.c.name))]


def pause(connection: sa.Connection, name: str, *, paused: bool) -> bool:
    """Stop or resume the claims of a queue; False when there is no such queue."""
    changed = connection.execute(sa.update(queues).where(queues.c.name == name).values(paused=int(paused)))
    return changed.rowcount == 1


def purge(connection: sa.Connection, name: str) -> list[Ended]:
    """Cancel everything that waits in a queue."""
    return end_queued(connection, jobs.c.queue == name, Status.CANCELED)


def claimable_up_to(connection: sa.Connection, limit: int) -> dict[str, Depth]:
    """Count, for each queue that is not paused, claimable and suspect rows, each no further than limit."""
    names = connection.execute(sa.select(queues.c.name).where(queues.c.paused == 0)).scalars().all()
    return {
        name: Depth(
            claimable=_count(connection, name, jobs.c.lost == 0, limit),
            suspects=_count(connection, name, jobs.c.lost > 0, limit),
        )
        for name in names
    }


def _count(connection: sa.Connection, name: str, lane: sa.ColumnElement[bool], limit: int) -> int:
    rows = sa.select(sa.literal(1)).where(jobs.c.queue == name, WAITING, jobs.c.run_at.is_(None), lane).limit(limit)
    return connection.execute(sa.select(sa.func.count()).select_from(rows.subquery())).scalar_one()


def depths(connection: sa.Connection) -> dict[str, Depth]:
    """Count every queued and running job, by queue: for people, not for the hot path."""
    is_scheduled = sa.and_(WAITING, jobs.c.run_at.is_not(None))
    query = (
        sa.select(
            jobs.c.queue,
            _sum(sa.and_(WAITING, jobs.c.run_at.is_(None), jobs.c.lost == 0)),
            _sum(sa.and_(WAITING, jobs.c.run_at.is_(None), jobs.c.lost > 0)),
            _sum(is_scheduled),
            _sum(jobs.c.status == Status.RUNNING.value),
        )
        .where(jobs.c.status.in_((Status.QUEUED.value, Status.RUNNING.value)))
        .group_by(jobs.c.queue)
    )
    return {row[0]: Depth(*row[1:]) for row in connection.execute(query)}


def _sum(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((condition, 1), else_=0))


def move(connection: sa.Connection, source: str, target: str) -> int:
    """Give the waiting jobs of one queue to a sibling; their rank stays, so they stand there by their age."""
    moved = connection.execute(sa.update(jobs).where(jobs.c.queue == source, WAITING).values(queue=target))
    return moved.rowcount
