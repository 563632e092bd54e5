"""Queues as SQL sees them: which there are, how deep each is, whether it is paused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from schemas.jobs import Status
from storage.dialects import insert_new
from storage.jobs import RUNNING, WAITING, counted_up_to, ending_queued, untouched
from storage.rows import Ended
from storage.tables import IS_CLAIMABLE, IS_RUNNING, IS_SCHEDULED, IS_SUSPECT, batch_lines, jobs, queues

MOVED_TOGETHER = 5_000
"""A statement over all that waits, say a million rows, would keep every other writer waiting."""


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


ALL_QUEUES = sa.select(queues).order_by(queues.c.name)
OPEN_QUEUES = sa.select(queues.c.name).where(queues.c.paused == 0)


def _count(table: sa.Table, which: sa.TextClause) -> sa.Select[int]:
    in_queue = table.c.queue == sa.bindparam("in_queue")
    return counted_up_to(sa.bindparam("limit", type_=sa.Integer), table, in_queue, which)


COUNTS = {
    "claimable": _count(jobs, IS_CLAIMABLE),
    "suspects": _count(jobs, IS_SUSPECT),
    "lines": _count(batch_lines, IS_CLAIMABLE),
    "suspect_lines": _count(batch_lines, IS_SUSPECT),
}
"""What the reconciler asks of every queue every second, laid out once."""


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
    return [QueueRow(*row) for row in connection.execute(ALL_QUEUES)]


def pause(connection: sa.Connection, name: str, *, paused: bool) -> bool:
    """Stop or resume the claims of a queue; False when there is no such queue."""
    changed = connection.execute(sa.update(queues).where(queues.c.name == name).values(paused=int(paused)))
    return changed.rowcount == 1


def purge(connection: sa.Connection, name: str, limit: int | None = None) -> list[Ended]:
    """Cancel what waits in a queue, up to limit."""
    ending = ending_queued(jobs.c.queue == name, Status.CANCELED, limit=limit)
    return [Ended(*row) for row in connection.execute(ending)]


def claimable_up_to(connection: sa.Connection, limit: int) -> dict[str, Depth]:
    """Count, for each queue that is not paused, what could be claimed and what is suspect, each up to limit."""
    names = connection.execute(OPEN_QUEUES).scalars().all()
    return {
        name: Depth(
            **{
                state: connection.execute(count, {"in_queue": name, "limit": limit}).scalar_one()
                for state, count in COUNTS.items()
            }
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


def move(connection: sa.Connection, source: str, target: str, limit: int = MOVED_TOGETHER) -> int:
    """Give waiting jobs of a queue to a sibling, up to limit; their rank stays, so they stand there by their age."""
    waiting = untouched(jobs.c.queue == source, WAITING, limit=limit)
    return connection.execute(sa.update(jobs).where(jobs.c.id.in_(waiting)).values(queue=target)).rowcount
