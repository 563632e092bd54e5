"""The work on a batch itself, its validation and its files: one process at a time has it, by a lease and a fence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from schemas.batches import BatchStatus, LineStatus
from storage import batches, files
from storage.batches import LINE_BITS, BatchRow, Tally, lines_of
from storage.clock import db_now
from storage.files import NewFile
from storage.statements import Statement
from storage.tables import IS_UNFINISHED, batch_lines
from storage.tables import batches as table

RANK_SECONDS_PER_LINE = 0.01
"""A batch's lines rank as if they came one after the other: a small batch is not last behind a large one."""
INSERTED_TOGETHER = 5_000
AWAITS_WORK = table.c.status.in_(
    [BatchStatus.VALIDATING.value, BatchStatus.FINALIZING.value, BatchStatus.CANCELLING.value]
)
IS_DUE = sa.and_(IS_UNFINISHED, AWAITS_WORK, sa.or_(table.c.leased_until.is_(None), table.c.leased_until < db_now()))


@dataclass(frozen=True, slots=True)
class NewLine:
    """A line of a valid file: where its input lies, and its answer when it was refused."""

    queue: str
    chunk: int
    place: int
    answer: str | None = None
    start: int | None = None
    length: int | None = None


def is_there_any(connection: sa.Connection) -> bool:
    """Say whether a batch waits for somebody who works on it: a read, for it is asked every second."""
    return connection.execute(sa.select(table.c.number).where(IS_DUE).limit(1)).first() is not None


def claim(connection: sa.Connection, lease_seconds: float) -> BatchRow | None:
    """Take the work on the batch that has waited longest; from here on only this fence may write its outcome."""
    due = sa.select(table.c.number).where(IS_DUE).order_by(table.c.number).limit(1).with_for_update(skip_locked=True)
    number = connection.execute(due).scalar_one_or_none()
    statement = (
        sa.update(table)
        .where(table.c.number == number)
        .values(fence=table.c.fence + 1, leased_until=db_now() + lease_seconds)
        .returning(table)
    )
    return None if number is None else BatchRow(*connection.execute(statement).one())


def keep(connection: sa.Connection, row: BatchRow, lease_seconds: float) -> bool:
    """Extend the lease; False when somebody else has the work, or there is none any more."""
    which = sa.and_(_is_held(row), table.c.status == row.status)
    extended = sa.update(table).where(which).values(leased_until=db_now() + lease_seconds)
    return connection.execute(extended).rowcount == 1


def leave(connection: sa.Connection, row: BatchRow, pause_seconds: float | None = None) -> None:
    """Let others have the work, at once or after a pause."""
    until = None if pause_seconds is None else db_now() + pause_seconds
    connection.execute(sa.update(table).where(_is_held(row)).values(leased_until=until))


def publish(connection: sa.Connection, row: BatchRow, lines: Sequence[NewLine]) -> bool:
    """Let the lines of a valid file run, all at once; False when somebody else has the work, or it was canceled."""
    statement = (
        sa.update(table)
        .where(_is_held(row), table.c.status == BatchStatus.VALIDATING.value)
        .values(status=BatchStatus.IN_PROGRESS.value, total=len(lines), in_progress_at=db_now(), leased_until=None)
        .returning(table.c.paused)
    )
    paused = connection.execute(statement).scalar_one_or_none()
    if paused is None:
        return False
    waits = (LineStatus.HELD if paused else LineStatus.QUEUED).value
    for first in range(0, len(lines), INSERTED_TOGETHER):
        together = lines[first : first + INSERTED_TOGETHER]
        _insert(connection, [_row_of(row, first + index, line, waits) for index, line in enumerate(together)])
    batches.count(connection, row.number, Tally(failed=sum(line.answer is not None for line in lines)))
    return True


COLUMNS = ("id", "queue", "rank", "status", "attempt", "errors", "lost", "chunk", "place", "answer", "start", "length")
INSERT = Statement(lambda _dialect: sa.insert(batch_lines), COLUMNS)
INSERT_TOGETHER = """
    INSERT INTO batch_lines (
      id, queue, rank, status, attempt, errors, lost, chunk, place, answer, start, length)
    SELECT * FROM unnest(
      %(id)s::bigint[], %(queue)s::text[], %(rank)s::float8[], %(status)s::text[], %(attempt)s::int[],
      %(errors)s::int[], %(lost)s::int[], %(chunk)s::int[], %(place)s::int[], %(answer)s::text[],
      %(start)s::int[], %(length)s::int[])"""


def _insert(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(INSERT_TOGETHER, {name: [row[name] for row in rows] for name in COLUMNS})
    else:
        INSERT.run_all(connection, rows)


def _row_of(row: BatchRow, index: int, line: NewLine, waits: str) -> dict[str, Any]:
    said = {name: getattr(line, name) for name in NewLine.__slots__}
    return {
        **said,
        "id": (row.number << LINE_BITS) + index,
        "rank": row.created_at + RANK_SECONDS_PER_LINE * index,
        "status": waits if line.answer is None else LineStatus.FAILED.value,
        "attempt": 0,
        "errors": 0,
        "lost": 0,
    }


def fail(connection: sa.Connection, row: BatchRow, errors: str) -> bool:
    """End a batch whose file is none; False when somebody else has the work, or it was canceled."""
    which = sa.and_(_is_held(row), table.c.status == BatchStatus.VALIDATING.value)
    values = {"status": BatchStatus.FAILED.value, "failed_at": db_now(), "errors": errors, "leased_until": None}
    return connection.execute(sa.update(table).where(which).values(**values)).rowcount == 1


def complete(connection: sa.Connection, row: BatchRow, output: NewFile | None, error: NewFile | None) -> bool:
    """End a batch whose files are stored; its lines are needed no more. False when somebody else has the work."""
    status = _end_of(row)
    statement = (
        sa.update(table)
        .where(_is_held(row), table.c.status == row.status)
        .values(
            status=status.value,
            leased_until=None,
            output_file_id=output.id if output else None,
            error_file_id=error.id if error else None,
            **({f"{status.value}_at": db_now()} if status is not BatchStatus.EXPIRED else {}),
        )
    )
    if connection.execute(statement).rowcount != 1:
        return False
    for file in (output, error):
        if file is not None:
            files.add(connection, file)
    connection.execute(sa.delete(batch_lines).where(lines_of(row.number)))
    return True


def _end_of(row: BatchRow) -> BatchStatus:
    if row.status == BatchStatus.CANCELLING:
        return BatchStatus.CANCELLED
    return BatchStatus.COMPLETED if row.expired_at is None else BatchStatus.EXPIRED


def _is_held(row: BatchRow) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.number == row.number, table.c.fence == row.fence)
