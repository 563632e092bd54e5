"""Batches in SQL: their life, and that what is counted is what ended."""

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from schemas.batches import LineStatus
from schemas.ids import new_id
from storage import batch_lines, batch_upkeep, batches, files
from storage.batch_lines import ClaimedLine, EndedGroup, Finished, LineClaim, LineEnding, LineRelease
from storage.batches import BatchFilter, BatchRow, NewBatch
from storage.database import Database
from storage.files import NewFile
from storage.tables import batch_lines as lines_table
from storage.tables import batches as batches_table
from tests.contract.sql import CALLER, QUEUE

NEW = NewBatch("", CALLER, "/v1/embeddings", "file_1", "24h", 86_400)
SUCCEEDED, FAILED = LineStatus.SUCCEEDED, LineStatus.FAILED


def add(database: Database, lines: int = 0, **changes: Any) -> BatchRow:
    """A batch in progress with so many queued lines; one that is being validated when there are none."""
    new = replace(NEW, **{"id": new_id("batch"), **changes})
    row = database.transact(lambda connection: batches.add(connection, new))
    if not lines:
        return row

    def fill(connection: sa.Connection) -> None:
        values = {"queue": QUEUE, "status": "queued", "attempt": 0, "errors": 0, "lost": 0, "chunk": 0}
        connection.execute(
            sa.insert(lines_table),
            [{**values, "id": (row.number << 20) + place, "rank": row.created_at, "place": place}
             for place in range(lines)],
        )  # fmt: skip
        connection.execute(
            sa.update(batches_table).where(batches_table.c.number == row.number)
            .values(status="in_progress", total=lines)
        )  # fmt: skip

    database.transact(fill)
    return find(database, row)


def find(database: Database, row: BatchRow) -> BatchRow:
    found = database.read(lambda connection: batches.find(connection, row.id))
    assert found is not None
    return found


def claim(database: Database, limit: int, owner: str = "worker_a", most_lost: int = 0) -> list[ClaimedLine]:
    return database.write(batch_lines.claim, LineClaim(QUEUE, owner, limit, most_lost))


def finish(database: Database, lines: list[ClaimedLine], status: LineStatus = SUCCEEDED) -> Finished:
    endings = [LineEnding(one.id, one.attempt, status, 10 * n, 10, 3, 2, 1) for n, one in enumerate(lines)]
    return database.write(batch_lines.finish, EndedGroup("a1", endings))


def counts(database: Database, row: BatchRow) -> tuple[str, int, int]:
    now = find(database, row)
    return now.status, now.completed, now.failed


def statuses(database: Database) -> dict[str, int]:
    query = sa.select(lines_table.c.status, sa.func.count()).group_by(lines_table.c.status)
    return {row[0]: row[1] for row in database.read(lambda connection: list(connection.execute(query)))}


def test_a_batch_is_its_callers(database: Database) -> None:
    mine, other = add(database), add(database, caller_id="caller_b")
    assert mine.number != other.number
    assert (mine.status, mine.total) == ("validating", 0)
    assert mine.expires_at - mine.created_at == pytest.approx(86_400)
    assert database.read(lambda connection: batches.find(connection, mine.id, "caller_b")) is None
    assert database.read(lambda connection: batches.page(connection, BatchFilter(CALLER, 5))) == [mine]


def test_a_list_goes_from_the_newest_on(database: Database) -> None:
    rows = [add(database) for _ in range(3)]
    first = database.read(lambda connection: batches.page(connection, BatchFilter(CALLER, 1)))
    assert first == [rows[2], rows[1]]
    rest = database.read(lambda connection: batches.page(connection, BatchFilter(CALLER, 1, after=rows[1].id)))
    assert rest == [rows[0]]


def test_lines_are_claimed_in_their_order_and_once(database: Database) -> None:
    add(database, lines=5)
    first, second = claim(database, 3), claim(database, 3, "worker_b")
    assert [one.place for one in (*first, *second)] == [0, 1, 2, 3, 4]
    assert {one.attempt for one in (*first, *second)} == {1}
    assert claim(database, 1) == []


def test_a_group_that_ends_is_counted_and_the_last_one_ends_the_running(database: Database) -> None:
    row = add(database, lines=3)
    one, two, three = claim(database, 3)
    assert finish(database, [one, two]) == Finished(frozenset({one.id, two.id}), ())
    assert counts(database, row) == ("in_progress", 2, 0)
    assert finish(database, [three], FAILED) == Finished(frozenset({three.id}), (row.number,))
    assert counts(database, row) == ("finalizing", 2, 1)
    now = find(database, row)
    assert (now.prompt_tokens, now.completion_tokens, now.cached_tokens) == (9, 6, 3)
    assert now.finalizing_at is not None


def test_a_group_that_is_told_twice_counts_once(database: Database) -> None:
    row = add(database, lines=3)
    lines = claim(database, 2)
    finish(database, lines)
    assert finish(database, lines).ended == frozenset()
    assert counts(database, row) == ("in_progress", 2, 0)


def test_one_group_may_end_lines_of_several_batches(database: Database) -> None:
    one, two = add(database, lines=1), add(database, lines=2)
    assert finish(database, claim(database, 2)).over == (one.number,)
    assert (counts(database, one), counts(database, two)) == (("finalizing", 1, 0), ("in_progress", 1, 0))


def test_who_was_replaced_ends_nothing(database: Database) -> None:
    row = add(database, lines=2)
    first = claim(database, 2)
    database.write(batch_lines.release, [LineRelease(one.id, one.attempt) for one in first])
    second = claim(database, 2, "worker_b")
    assert finish(database, first).ended == frozenset()
    assert database.write(batch_lines.release, [LineRelease(one.id, one.attempt) for one in first]) == 0
    assert {one.attempt for one in second} == {2}
    assert finish(database, second).over == (row.number,)


def test_a_released_line_waits_or_is_counted(database: Database) -> None:
    add(database, lines=2)
    now, later = claim(database, 2)
    released = database.write(
        batch_lines.release,
        [LineRelease(now.id, 1), LineRelease(later.id, 1, run_again_in_seconds=60, counts_as_error=True)],
    )
    assert released == 2
    [again] = claim(database, 2)
    assert (again.id, again.attempt, again.errors) == (now.id, 2, 0)


def test_a_paused_batch_begins_no_line_and_a_released_one_stays(database: Database) -> None:
    row = add(database, lines=3)
    [running] = claim(database, 1)
    paused = database.transact(lambda connection: batches.set_paused(connection, row.id, CALLER, paused=True))
    assert paused is not None
    assert paused.paused == 1
    assert claim(database, 3) == []
    database.write(batch_lines.release, [LineRelease(running.id, 1)])
    assert statuses(database) == {"held": 3}
    database.transact(lambda connection: batches.set_paused(connection, row.id, CALLER, paused=False))
    assert len(claim(database, 3)) == 3


def test_another_callers_batch_is_neither_paused_nor_canceled(database: Database) -> None:
    row = add(database, lines=1)
    assert database.transact(lambda c: batches.set_paused(c, row.id, "caller_b", paused=True)) is None
    assert database.transact(lambda c: batches.request_cancel(c, row.id, "caller_b")) is None
    assert len(claim(database, 1)) == 1


def test_a_cancel_ends_what_has_not_ended_and_says_who_must_stop(database: Database) -> None:
    row = add(database, lines=5)
    done, running = claim(database, 1), claim(database, 2, "worker_b")
    finish(database, done)
    stopped = database.transact(lambda connection: batches.request_cancel(connection, row.id, CALLER))
    assert stopped is not None
    assert (stopped.row.status, stopped.row.completed, stopped.row.failed) == ("cancelling", 1, 4)
    assert stopped.owners == ["worker_b"]
    assert finish(database, running).ended == frozenset()
    assert counts(database, row) == ("cancelling", 1, 4)
    again = database.transact(lambda connection: batches.request_cancel(connection, row.id, CALLER))
    assert again is not None
    assert (again.row.status, again.owners) == ("cancelling", [])


def test_a_window_that_closes_ends_the_batch(database: Database) -> None:
    row, other = add(database, lines=2, window_seconds=-1), add(database, lines=2)
    [closed] = database.transact(lambda connection: batches.close_windows(connection, 10))
    assert (closed.row.id, closed.row.status, closed.row.failed) == (row.id, "finalizing", 2)
    assert closed.row.expired_at is not None
    walked = database.read(lambda connection: batch_lines.walk(connection, row.number, -1, 10))
    assert [one.error for one in walked] == ["batch_expired", "batch_expired"]
    assert counts(database, other) == ("in_progress", 0, 0)
    assert database.transact(lambda connection: batches.close_windows(connection, 10)) == []


def test_a_walk_shows_what_ended_in_the_order_of_the_file(database: Database) -> None:
    row = add(database, lines=6)
    add(database, lines=2)
    lines = claim(database, 6)
    finish(database, [lines[4], lines[1]])
    finish(database, [lines[2]], FAILED)
    walked = database.read(lambda connection: batch_lines.walk(connection, row.number, -1, 2))
    assert [(one.place, one.status, one.answer, one.start, one.length) for one in walked] == [
        (1, "succeeded", "a1", 10, 10),
        (2, "failed", "a1", 0, 10),
    ]
    rest = database.read(lambda connection: batch_lines.walk(connection, row.number, walked[-1].id, 2))
    assert [one.place for one in rest] == [4]


def test_a_file_is_needed_until_its_batch_has_ended(database: Database) -> None:
    row = add(database, lines=1, input_file_id="file_7")
    assert database.read(lambda connection: batches.unfinished_with(connection, "file_7")) == row.id
    assert database.read(lambda connection: batches.unfinished_with(connection, "file_8")) is None
    assert database.read(lambda connection: batches.with_objects(connection, [row.id, "batch_x"])) == {row.id: True}


def test_a_batch_is_forgotten_long_after_its_end_when_its_files_are_gone(database: Database) -> None:
    running, ended, with_files = add(database, 1), add(database), add(database)
    output = NewFile("file_of_it", CALLER, "batch_output", "output.jsonl", 1, "sha", None)

    def end(connection: sa.Connection) -> None:
        values = {"status": "cancelled", "cancelled_at": ended.created_at, "completed_at": None}
        for row, file_id in ((ended, "file_that_is_gone"), (with_files, output.id)):
            which = batches_table.c.number == row.number
            connection.execute(sa.update(batches_table).where(which).values(output_file_id=file_id, **values))
        files.add(connection, output)

    def forget(kept_seconds: float) -> int:
        return database.transact(lambda connection: batch_upkeep.forget(connection, kept_seconds, 10))

    database.transact(end)
    assert forget(60) == 0
    assert forget(-1) == 1
    left = database.read(lambda connection: batches.page(connection, BatchFilter(CALLER, 10)))
    assert {row.id for row in left} == {running.id, with_files.id}
    database.transact(lambda connection: files.delete(connection, output.id, CALLER))
    assert forget(-1) == 1
