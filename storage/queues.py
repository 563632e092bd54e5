"""Queues as SQL sees them: which there are, how deep each is, whether it is paused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from schemas.jobs import Status
from storage.batch_lines import count_lines_up_to
from storage.dialects import insert_new
from storage.jobs import RUNNING, WAITING, count_up_to, end_queued, untouched
from storage.rows import Ended
from storage.tables import IS_CLAIMABLE, IS_RUNNING, IS_SCHEDULED, IS_SUSPECT, batch_lines, jobs, queues


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
    """How many jobs of a queue are in which state, and how many lines of batches."""

    claimable: int = 0
    suspects: int = 0
    scheduled: int = 0
    running: int = 0
    lines: int = 0
    suspect_lines: int = 0
    scheduled_lines: int = 0
    running_lines: int = 0

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


def purge(connection: sa.Connection, name: str, limit: int | None = None) -> list[Ended]:
    """Cancel what waits in a queue, up to limit."""
    return end_queued(connection, jobs.c.queue == name, Status.CANCELED, limit=limit)


def claimable_up_to(connection: sa.Connection, limit: int) -> dict[str, Depth]:
    """Count, for each queue that is not paused, what could be claimed and what is suspect, each up to limit."""
    names = connection.execute(sa.select(queues.c.name).where(queues.c.paused == 0)).scalars().all()
    return {
        name: Depth(
            claimable=count_up_to(connection, limit, jobs.c.queue == name, IS_CLAIMABLE),
            suspects=count_up_to(connection, limit, jobs.c.queue == name, IS_SUSPECT),
            lines=count_lines_up_to(connection, limit, batch_lines.c.queue == name, IS_CLAIMABLE),
            suspect_lines=count_lines_up_to(connection, limit, batch_lines.c.queue == name, IS_SUSPECT),
        )
        for name in names
    }


def depths(connection: sa.Connection) -> dict[str, Depth]:
    """Count every queued and running job and line, by queue: for people, not for the hot path."""
    lanes: tuple[tuple[str, sa.Table, sa.ColumnElement[bool] | sa.TextClause], ...] = (
        ("claimable", jobs, IS_CLAIMABLE),
        ("suspects", jobs, IS_SUSPECT),
        ("scheduled", jobs, IS_SCHEDULED),
        ("running", jobs, RUNNING),
        ("lines", batch_lines, IS_CLAIMABLE),
        ("suspect_lines", batch_lines, IS_SUSPECT),
        ("scheduled_lines", batch_lines, IS_SCHEDULED),
        ("running_lines", batch_lines, IS_RUNNING),
    )
    counts: dict[str, dict[str, int]] = {}
    for lane, table, condition in lanes:
        query = sa.select(table.c.queue, sa.func.count()).where(condition).group_by(table.c.queue)
        for name, count in connection.execute(query):
            counts.setdefault(name, {})[lane] = count
    return {name: Depth(**count) for name, count in counts.items()}


def move(connection: sa.Connection, source: str, target: str, limit: int | None = None) -> int:
    """Give waiting jobs of a queue to a sibling, up to limit; their rank stays, so they stand there by their age."""
    waiting = untouched(jobs.c.queue == source, WAITING, limit=limit)
    return connection.execute(sa.update(jobs).where(jobs.c.id.in_(waiting)).values(queue=target)).rowcount
