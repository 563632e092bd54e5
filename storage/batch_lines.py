"""Lines of batches as workers touch them: claim, finish, release in groups; each fenced by its attempt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa

from schemas.batches import LineStatus
from storage import batches
from storage.batches import LINE_BITS, Tally, lines_of
from storage.clock import db_now
from storage.tables import batch_lines

PICK = """
    SELECT id FROM batch_lines
    WHERE queue = :queue AND status = 'queued' AND run_at IS NULL AND {lane}
      AND NOT EXISTS (SELECT 1 FROM queues WHERE name = :queue AND paused = 1)
    ORDER BY rank LIMIT :limit"""
TAKE = """
    UPDATE batch_lines SET status = 'running', owner = :owner, attempt = attempt + 1
    WHERE {chosen}
    RETURNING id, attempt, errors, lost, chunk, place"""
MORE = """
    SELECT 1 FROM batch_lines WHERE queue = :queue AND status = 'queued' AND run_at IS NULL AND {lane}
    ORDER BY rank LIMIT 1"""
CLEAN = "lost = 0"
SUSPECT = "lost > 0 AND lost <= :most_lost"
END = {
    "sqlite": """
        UPDATE batch_lines SET status = new.value ->> 2, start = new.value ->> 3, length = new.value ->> 4,
          answer = :answer, owner = NULL
        FROM json_each(:endings) AS new
        WHERE batch_lines.id = new.value ->> 0 AND attempt = new.value ->> 1 AND (status = 'running') IS TRUE
        RETURNING id""",
    "postgresql": """
        UPDATE batch_lines SET status = new.status, start = new.start, length = new.length,
          answer = :answer, owner = NULL
        FROM (
          SELECT (value ->> 0)::bigint AS id, (value ->> 1)::int AS attempt, value ->> 2 AS status,
            (value ->> 3)::int AS start, (value ->> 4)::int AS length
          FROM json_array_elements(CAST(:endings AS json)) AS value
        ) AS new
        WHERE batch_lines.id = new.id AND batch_lines.attempt = new.attempt
          AND (batch_lines.status = 'running') IS TRUE
        RETURNING batch_lines.id""",
}


@dataclass(frozen=True, slots=True)
class LineClaim:
    """A wish for up to `limit` lines of a queue; `most_lost` > 0 asks for suspects instead of clean lines."""

    queue: str
    owner: str
    limit: int
    most_lost: int = 0


@dataclass(frozen=True, slots=True)
class ClaimedLine:
    """What a worker needs of a line that it has claimed."""

    id: int
    attempt: int
    errors: int
    lost: int
    chunk: int
    place: int

    @property
    def batch(self) -> int:
        """Return its batch's number."""
        return self.id >> LINE_BITS


@dataclass(frozen=True, slots=True)
class LineEnding:
    """How an attempt ended its line, and where in the group's object its answer lies."""

    id: int
    attempt: int
    status: LineStatus
    start: int
    length: int
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class EndedGroup:
    """Lines that ended together; their answers are one object, already stored under this name."""

    answer: str
    endings: Sequence[LineEnding]


@dataclass(frozen=True, slots=True)
class Finished:
    """What a group did: which lines ended by it, and which batches have no line left."""

    ended: frozenset[int]
    over: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LineRelease:
    """An attempt gives its line back: at once, or later and counted after a retryable error."""

    id: int
    attempt: int
    run_again_in_seconds: float | None = None
    counts_as_error: bool = False


def claim(connection: sa.Connection, wishes: Sequence[LineClaim]) -> list[list[ClaimedLine]]:
    """Give each wish the best lines of its queue, in the order of their ids."""
    return [_claim(connection, wish) for wish in wishes]


def _claim(connection: sa.Connection, wish: LineClaim) -> list[ClaimedLine]:
    take = _statements(connection.dialect.name, suspects=wish.most_lost > 0)[0]
    parameters = {"queue": wish.queue, "owner": wish.owner, "limit": wish.limit, "most_lost": wish.most_lost}
    return sorted((ClaimedLine(*row) for row in connection.execute(take, parameters)), key=lambda line: line.id)


def has_more(connection: sa.Connection, queue: str, most_lost: int = 0) -> bool:
    """Say whether a queue holds a line that a claim could take."""
    statement = _statements(connection.dialect.name, suspects=most_lost > 0)[1]
    return connection.execute(statement, {"queue": queue, "most_lost": most_lost}).first() is not None


@cache
def _statements(dialect: str, *, suspects: bool) -> tuple[sa.TextClause, sa.TextClause]:
    lane = SUSPECT if suspects else CLEAN
    pick = PICK.format(lane=lane)
    chosen = f"id IN ({pick})" if dialect == "sqlite" else f"id = ANY(ARRAY({pick} FOR UPDATE SKIP LOCKED))"
    return sa.text(TAKE.format(chosen=chosen)), sa.text(MORE.format(lane=lane))


def finish(connection: sa.Connection, groups: Sequence[EndedGroup]) -> list[Finished]:
    """End groups of lines and count them; a line that does not end here was replaced, and its answer is void."""
    batches.lock(connection, (ending.id >> LINE_BITS for group in groups for ending in group.endings))
    return [_finish(connection, group) for group in groups]


def _finish(connection: sa.Connection, group: EndedGroup) -> Finished:
    rows = [[one.id, one.attempt, one.status.value, one.start, one.length] for one in group.endings]
    said = {"answer": group.answer, "endings": json.dumps(rows)}
    ended = frozenset(connection.execute(sa.text(END[connection.dialect.name]), said).scalars())
    over = [number for number, tally in _tallies(group, ended) if batches.count(connection, number, tally)]
    return Finished(ended, tuple(over))


def _tallies(group: EndedGroup, ended: frozenset[int]) -> Iterator[tuple[int, Tally]]:
    counted = [one for one in group.endings if one.id in ended]
    for number in sorted({one.id >> LINE_BITS for one in counted}):
        mine = [one for one in counted if one.id >> LINE_BITS == number]
        completed = sum(one.status is LineStatus.SUCCEEDED for one in mine)
        yield (
            number,
            Tally(
                completed,
                len(mine) - completed,
                sum(one.prompt_tokens for one in mine),
                sum(one.completion_tokens for one in mine),
                sum(one.cached_tokens for one in mine),
            ),
        )


def release(connection: sa.Connection, releases: Sequence[Sequence[LineRelease]]) -> list[int]:
    """Give groups of lines back; the answer is how many of each still were their attempt's."""
    paused = batches.lock(connection, (one.id >> LINE_BITS for group in releases for one in group))
    return [sum(_release(connection, one, paused) for one in group) for group in releases]


def _release(connection: sa.Connection, one: LineRelease, paused: Sequence[int]) -> int:
    delay = one.run_again_in_seconds
    statement = (
        sa.update(batch_lines)
        .where(
            batch_lines.c.id == one.id,
            batch_lines.c.attempt == one.attempt,
            batches.RUNNING_LINE.is_(sa.true()),
        )
        .values(
            status=after_running(one.id, paused),
            owner=None,
            errors=batch_lines.c.errors + int(one.counts_as_error),
            run_at=None if delay is None else db_now() + delay,
        )
    )
    return connection.execute(statement).rowcount


def after_running(line_id: int, paused: Sequence[int]) -> str:
    """Return what a line is that runs no more and has not ended."""
    return (LineStatus.HELD if line_id >> LINE_BITS in paused else LineStatus.QUEUED).value


@dataclass(frozen=True, slots=True)
class LineRow:
    """What a walk sees of a line."""

    id: int
    status: str
    chunk: int
    place: int
    answer: str | None
    start: int | None
    length: int | None
    error: str | None


def walk(connection: sa.Connection, number: int, after: int, limit: int) -> list[LineRow]:
    """Return the next lines of a batch that have ended, in the order of its file; `after` is a line's id or -1."""
    columns = (batch_lines.c[name] for name in LineRow.__slots__)
    ended = batch_lines.c.status.in_([LineStatus.SUCCEEDED.value, LineStatus.FAILED.value])
    query = sa.select(*columns).where(lines_of(number), batch_lines.c.id > after, ended)
    return [LineRow(*row) for row in connection.execute(query.order_by(batch_lines.c.id).limit(limit))]


def held_by(connection: sa.Connection, owner: str) -> dict[int, int]:
    """Return the running lines of a worker, each with its attempt."""
    query = sa.select(batch_lines.c.id, batch_lines.c.attempt).where(
        batch_lines.c.owner == owner, batches.RUNNING_LINE
    )
    return {row.id: row.attempt for row in connection.execute(query)}
