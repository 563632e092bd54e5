"""Batches as their callers touch them: add, read, list, pause, cancel; and their end when the window closes.

Whoever changes lines locks their batches first, in the order of their numbers, so that nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from schemas.batches import BATCH_ENDS, BatchStatus, LineEnd, LineStatus
from storage.clock import db_now
from storage.tables import IS_UNFINISHED, batch_lines, batches, webhook_endpoints

LINE_BITS = 20
"""A line's id is its batch's number and, in so many bits, its own."""
UNFINISHED_LINE = batch_lines.c.status.in_([LineStatus.QUEUED, LineStatus.HELD, LineStatus.RUNNING])
RUNNING_LINE = batch_lines.c.status == sa.literal_column(f"'{LineStatus.RUNNING.value}'")
MAY_RUN = batches.c.status.in_([BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS])


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A row of `batches`, whole, in the order of its columns; JSON columns still as text."""

    number: int
    id: str
    caller_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: str
    paused: int
    total: int
    completed: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    fence: int
    leased_until: float | None
    created_at: float
    expires_at: float
    in_progress_at: float | None
    finalizing_at: float | None
    completed_at: float | None
    failed_at: float | None
    expired_at: float | None
    cancelling_at: float | None
    cancelled_at: float | None
    output_kept_seconds: float | None
    output_file_id: str | None
    error_file_id: str | None
    errors: str | None
    metadata: str | None
    webhook: str | None
    request_id: str | None
    cached_tokens: int | None


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch to be; JSON as text."""

    id: str
    caller_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    window_seconds: float
    output_kept_seconds: float | None = None
    metadata: str | None = None
    webhook: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """Which batches a list shows, newest first."""

    caller_id: str
    limit: int
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """What lines that ended add to their batch."""

    completed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Stopped:
    """A batch none of whose lines will run any more, and the workers that must stop those that did."""

    row: BatchRow
    owners: list[str]


def add(connection: sa.Connection, new: NewBatch) -> BatchRow:
    """Write a batch's row: from here on it exists, and somebody validates its file."""
    links = sa.select(sa.func.max(webhook_endpoints.c.links)).where(webhook_endpoints.c.caller_id == new.caller_id)
    said = {name: getattr(new, name) for name in NewBatch.__slots__ if name not in {"window_seconds", "webhook"}}
    counts = dict.fromkeys(
        ("paused", "total", "completed", "failed", "prompt_tokens", "completion_tokens", "fence"), 0
    )
    statement = (
        sa.insert(batches)
        .values(
            **said,
            **counts,
            status=BatchStatus.VALIDATING.value,
            webhook=sa.func.coalesce(sa.literal(new.webhook, sa.Text), links.scalar_subquery()),
            created_at=db_now(),
            expires_at=db_now() + new.window_seconds,
        )
        .returning(batches)
    )
    return BatchRow(*connection.execute(statement).one())


def find(connection: sa.Connection, batch_id: str, caller_id: str | None = None) -> BatchRow | None:
    """Return a batch; of that caller only, when one is named."""
    query = sa.select(batches).where(batches.c.id == batch_id)
    if caller_id is not None:
        query = query.where(batches.c.caller_id == caller_id)
    row = connection.execute(query).one_or_none()
    return BatchRow(*row) if row else None


def page(connection: sa.Connection, wanted: BatchFilter) -> list[BatchRow]:
    """Return up to limit + 1 batches, newest first: the one too many says that there are more."""
    query = sa.select(batches).where(batches.c.caller_id == wanted.caller_id)
    if wanted.after is not None:
        query = query.where(batches.c.id < wanted.after)
    return [BatchRow(*row) for row in connection.execute(query.order_by(batches.c.id.desc()).limit(wanted.limit + 1))]


def numbered(connection: sa.Connection, numbers: Collection[int]) -> dict[int, BatchRow]:
    """Return the batches with these numbers."""
    rows = connection.execute(sa.select(batches).where(batches.c.number.in_(numbers)))
    return {row.number: BatchRow(*row) for row in rows}


def unfinished_with(connection: sa.Connection, file_id: str) -> str | None:
    """Return a batch that still needs this file, when there is one."""
    query = sa.select(batches.c.id).where(batches.c.input_file_id == file_id, IS_UNFINISHED).limit(1)
    return connection.execute(query).scalar_one_or_none()


def with_objects(connection: sa.Connection, ids: Sequence[str]) -> dict[str, bool]:
    """For each batch that has a row: whether it may still have objects of its own, beside its files."""
    rows = connection.execute(sa.select(batches.c.id, batches.c.status).where(batches.c.id.in_(ids)))
    return {row.id: row.status not in BATCH_ENDS for row in rows}


def set_paused(connection: sa.Connection, batch_id: str, caller_id: str, *, paused: bool) -> BatchRow | None:
    """Let no more lines of a caller's batch begin, or let them again; None when there is no such batch.

    What has ended, or makes its files, stays as it is.
    """
    statement = (
        sa.update(batches)
        .where(batches.c.id == batch_id, batches.c.caller_id == caller_id, MAY_RUN)
        .values(paused=int(paused))
        .returning(batches)
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return find(connection, batch_id, caller_id)
    before, after = (LineStatus.QUEUED, LineStatus.HELD) if paused else (LineStatus.HELD, LineStatus.QUEUED)
    which = sa.and_(lines_of(row.number), batch_lines.c.status == before.value)
    connection.execute(sa.update(batch_lines).where(which).values(status=after.value))
    return BatchRow(*row)


def request_cancel(connection: sa.Connection, batch_id: str, caller_id: str) -> Stopped | None:
    """Stop a caller's batch: no line of it will run; None when there is no such batch.

    What has ended, or makes its files, stays as it is.
    """
    which = sa.and_(batches.c.id == batch_id, batches.c.caller_id == caller_id, MAY_RUN)
    number = connection.execute(sa.select(batches.c.number).where(which).with_for_update()).scalar_one_or_none()
    if number is None:
        row = find(connection, batch_id, caller_id)
        return Stopped(row, []) if row else None
    return _stop(connection, number, LineEnd.CANCELLED, BatchStatus.CANCELLING)


def close_windows(connection: sa.Connection, limit: int) -> list[Stopped]:
    """Stop batches whose completion window is over."""
    due = sa.select(batches.c.number).where(IS_UNFINISHED, MAY_RUN, batches.c.expires_at <= db_now()).limit(limit)
    numbers = list(connection.execute(due.order_by(batches.c.number).with_for_update(skip_locked=True)).scalars())
    return [_stop(connection, number, LineEnd.EXPIRED, BatchStatus.FINALIZING) for number in numbers]


def _stop(connection: sa.Connection, number: int, why: LineEnd, status: BatchStatus) -> Stopped:
    running = sa.select(batch_lines.c.owner).distinct().where(lines_of(number), RUNNING_LINE)
    owners = [owner for owner in connection.execute(running).scalars() if owner]
    ended = (
        sa.update(batch_lines)
        .where(lines_of(number), UNFINISHED_LINE)
        .values(status=LineStatus.FAILED.value, error=why.value, owner=None, run_at=None)
    )
    failed = connection.execute(ended).rowcount
    changed = (
        sa.update(batches)
        .where(batches.c.number == number)
        .values(
            status=status.value,
            paused=0,
            failed=batches.c.failed + failed,
            **{f"{status.value}_at": db_now()},
            **({"expired_at": db_now()} if why is LineEnd.EXPIRED else {}),
        )
        .returning(batches)
    )
    return Stopped(BatchRow(*connection.execute(changed).one()), owners)


def lines_of(number: int) -> sa.ColumnElement[bool]:
    """Say which lines are a batch's."""
    return sa.and_(batch_lines.c.id >= number << LINE_BITS, batch_lines.c.id < (number + 1) << LINE_BITS)


def lock(connection: sa.Connection, numbers: Iterable[int]) -> list[int]:
    """Have nobody else change these batches or their lines until the transaction ends; return who is paused."""
    query = sa.select(batches.c.number, batches.c.paused).where(batches.c.number.in_(sorted(set(numbers))))
    rows = connection.execute(query.order_by(batches.c.number).with_for_update())
    return [row.number for row in rows if row.paused]


IS_OVER = sa.and_(
    batches.c.status == BatchStatus.IN_PROGRESS.value,
    batches.c.completed + batches.c.failed + sa.bindparam("ended") >= batches.c.total,
)
COUNT = (
    sa.update(batches)
    .where(batches.c.number == sa.bindparam("of_number"))
    .values(
        completed=batches.c.completed + sa.bindparam("more_completed"),
        failed=batches.c.failed + sa.bindparam("more_failed"),
        prompt_tokens=batches.c.prompt_tokens + sa.bindparam("more_prompt_tokens"),
        completion_tokens=batches.c.completion_tokens + sa.bindparam("more_completion_tokens"),
        cached_tokens=sa.func.coalesce(batches.c.cached_tokens, 0) + sa.bindparam("more_cached_tokens"),
        status=sa.case((IS_OVER, BatchStatus.FINALIZING.value), else_=batches.c.status),
        finalizing_at=sa.case((IS_OVER, db_now()), else_=batches.c.finalizing_at),
    )
    .returning(batches.c.status)
)


def count(connection: sa.Connection, number: int, tally: Tally) -> bool:
    """Add lines that ended to their batch; True when these were its last."""
    values = {f"more_{name}": getattr(tally, name) for name in Tally.__slots__}
    values |= {"of_number": number, "ended": tally.completed + tally.failed}
    status = connection.execute(COUNT, values).scalar_one_or_none()
    return bool(status == BatchStatus.FINALIZING)
