"""What the reconciler does for lines, and the sweep for batches: the lost go back, the due may run, the old go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa

from schemas.batches import BATCH_ENDS, LineEnd, LineStatus
from schemas.jobs import LOST_LIMIT
from storage import batches
from storage.batch_lines import after_running
from storage.batches import LINE_BITS, RUNNING_LINE, Tally
from storage.clock import db_now
from storage.tables import batch_lines, files, queues, workers
from storage.tables import batches as table

UPKEEP_LINES = 5_000
"""Rows per statement, so that a large batch does not hold the writers up for long."""
WAITING_LINE = batch_lines.c.status.in_([LineStatus.QUEUED, LineStatus.HELD])
QUEUED_LINE = batch_lines.c.status == sa.literal_column(f"'{LineStatus.QUEUED.value}'")


def requeue_lost(connection: sa.Connection) -> list[int]:
    """Take back the lines of workers that have no row any more; return them.

    A line that was lost too often ends, and is counted. As with jobs the owners are found in a statement of its own.
    """
    gone = sa.select(batch_lines.c.owner).distinct().where(
        RUNNING_LINE, batch_lines.c.owner.not_in(sa.select(workers.c.id))
    )  # fmt: skip
    owners = connection.execute(gone).scalars().all()
    if not owners:
        return []
    is_lost = sa.and_(RUNNING_LINE, batch_lines.c.owner.in_(owners))
    found = list(connection.execute(sa.select(batch_lines.c.id).where(is_lost)).scalars())
    paused = batches.lock(connection, (line_id >> LINE_BITS for line_id in found))
    taken: list[int] = []
    for waits in (LineStatus.QUEUED.value, LineStatus.HELD.value):
        ids = [line_id for line_id in found if after_running(line_id, paused) == waits]
        if ids:
            taken += _take_back(connection, sa.and_(batch_lines.c.id.in_(ids), is_lost), waits)
    return taken


def _take_back(connection: sa.Connection, which: sa.ColumnElement[bool], waits: str) -> list[int]:
    lost = batch_lines.c.lost + 1
    statement = (
        sa.update(batch_lines)
        .where(which)
        .values(
            status=sa.case((lost >= LOST_LIMIT, LineStatus.FAILED.value), else_=waits),
            error=sa.case((lost >= LOST_LIMIT, LineEnd.WORKER_LOST.value)),
            lost=lost,
            owner=None,
        )
        .returning(batch_lines.c.id, batch_lines.c.status)
    )
    rows = list(connection.execute(statement))
    _count_failed(connection, [row.id for row in rows if row.status == LineStatus.FAILED])
    return [row.id for row in rows]


def release_scheduled(connection: sa.Connection) -> None:
    """Let lines be claimed whose run_at has come."""
    due = sa.select(batch_lines.c.id).where(QUEUED_LINE, batch_lines.c.run_at <= db_now()).limit(UPKEEP_LINES)
    which = batch_lines.c.id.in_(due.with_for_update(skip_locked=True))
    connection.execute(sa.update(batch_lines).where(which).values(run_at=None))


def fail_removed_models(connection: sa.Connection, known: Sequence[str]) -> int:
    """End lines that wait for a model that the catalog has lost; return how many."""
    lost_queues = connection.execute(sa.select(queues.c.name).where(queues.c.model.not_in(known))).scalars().all()
    waiting = sa.and_(QUEUED_LINE, batch_lines.c.queue.in_(lost_queues))
    found = connection.execute(sa.select(batch_lines.c.id).where(waiting).limit(UPKEEP_LINES)).scalars().all()
    if not found:
        return 0
    batches.lock(connection, (line_id >> LINE_BITS for line_id in found))
    values = {"status": LineStatus.FAILED.value, "error": LineEnd.MODEL_REMOVED.value, "run_at": None}
    statement = sa.update(batch_lines).where(batch_lines.c.id.in_(found), waiting).values(**values)
    failed = list(connection.execute(statement.returning(batch_lines.c.id)).scalars())
    _count_failed(connection, failed)
    return len(failed)


def move(connection: sa.Connection, source: str, target: str, limit: int = UPKEEP_LINES) -> int:
    """Give waiting lines of a queue to a sibling, up to limit; their rank stays.

    Those of paused batches go with the others: nobody would look for them here when their batch is resumed.
    """
    waiting = sa.select(batch_lines.c.id).where(batch_lines.c.queue == source, WAITING_LINE).limit(limit)
    which = batch_lines.c.id.in_(waiting.with_for_update(skip_locked=True))
    return connection.execute(sa.update(batch_lines).where(which).values(queue=target)).rowcount


def forget(connection: sa.Connection, kept_seconds: float, limit: int) -> int:
    """Delete rows of batches that ended long ago and whose files are gone, up to limit; return how many."""
    long_ago = db_now() - kept_seconds
    ended_at = sa.func.coalesce(table.c.completed_at, table.c.cancelled_at, table.c.expired_at, table.c.failed_at)
    has_files = sa.exists().where(files.c.id.in_([table.c.output_file_id, table.c.error_file_id]))
    old = sa.select(table.c.number).where(
        table.c.created_at <= long_ago, table.c.status.in_(BATCH_ENDS), ended_at <= long_ago, ~has_files
    )  # fmt: skip
    which = table.c.number.in_(old.order_by(table.c.number).limit(limit))
    return connection.execute(sa.delete(table).where(which)).rowcount


def _count_failed(connection: sa.Connection, ids: Sequence[int]) -> None:
    for number, failed in sorted(Counter(line_id >> LINE_BITS for line_id in ids).items()):
        batches.count(connection, number, Tally(failed=failed))
