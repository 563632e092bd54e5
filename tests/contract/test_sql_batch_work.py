"""The work on batches, and the care for their lines: leases, fences, lost workers, removed models."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from schemas.files import Purpose
from schemas.ids import new_id
from storage import batch_lines, batch_upkeep, batch_work, batches, files, queues, workers
from storage.batch_lines import LineClaim, LineRelease
from storage.batch_work import NewLine
from storage.batches import BatchRow
from storage.database import Database
from storage.files import NewFile
from storage.queues import QueueRow
from storage.tables import batch_lines as lines_table
from storage.webhooks import deliveries
from storage.webhooks.deliveries import DeliveryFilter
from tests.contract.sql import CALLER, QUEUE, register
from tests.contract.test_sql_batches import add, claim, counts, find, finish, statuses


def take(database: Database, lease_seconds: float = 60) -> BatchRow | None:
    return database.transact(lambda connection: batch_work.claim(connection, lease_seconds))


def took(database: Database, lease_seconds: float = 60) -> BatchRow:
    row = take(database, lease_seconds)
    assert row is not None
    return row


def new_file(name: str) -> NewFile:
    return NewFile(new_id("file"), CALLER, Purpose.BATCH_OUTPUT, name, 3, "0" * 64, 3600.0)


def test_one_at_a_time_works_on_a_batch(database: Database) -> None:
    row = add(database)
    assert database.read(batch_work.is_there_any)
    first = took(database)
    assert (first.id, first.fence) == (row.id, 1)
    assert take(database) is None
    assert not database.read(batch_work.is_there_any)


def test_who_was_silent_for_too_long_has_lost_the_work(database: Database) -> None:
    add(database)
    first, second = took(database, -1), took(database)
    assert second.fence == 2
    assert not database.transact(lambda c: batch_work.keep(c, first, 60))
    assert not database.transact(lambda c: batch_work.publish(c, first, [NewLine(QUEUE, 0, 0)]))
    assert not database.transact(lambda c: batch_work.fail(c, first, "[]"))
    database.transact(lambda c: batch_work.leave(c, first))
    assert database.transact(lambda c: batch_work.keep(c, second, 60))
    assert take(database) is None


def test_work_that_was_left_can_be_taken_when_its_pause_is_over(database: Database) -> None:
    add(database)
    first = took(database)
    database.transact(lambda connection: batch_work.leave(connection, first, 60))
    assert take(database) is None
    database.transact(lambda connection: batch_work.leave(connection, first))
    assert take(database) is not None


def test_lines_are_published_all_at_once_in_their_order(database: Database) -> None:
    row = add(database)
    new = [NewLine(QUEUE, number // 256, number % 256) for number in range(6_000)]
    new[5] = NewLine("", 0, 5, "a0", 0, 7)
    work = took(database)
    assert database.transact(lambda connection: batch_work.publish(connection, work, new))
    now = find(database, row)
    assert (now.status, now.total, now.failed, now.leased_until) == ("in_progress", 6_000, 1, None)
    assert [(one.chunk, one.place) for one in claim(database, 7)] == [(0, place) for place in (0, 1, 2, 3, 4, 6, 7)]
    assert statuses(database) == {"failed": 1, "queued": 5_992, "running": 7}


def test_a_batch_that_was_paused_while_it_was_read_begins_nothing(database: Database) -> None:
    row = add(database)
    work = took(database)
    database.transact(lambda connection: batches.set_paused(connection, row.id, CALLER, paused=True))
    database.transact(lambda connection: batch_work.publish(connection, work, [NewLine(QUEUE, 0, 0)]))
    assert claim(database, 1) == []


def test_what_was_canceled_while_it_was_read_is_not_published(database: Database) -> None:
    row = add(database)
    work = took(database)
    database.transact(lambda connection: batches.request_cancel(connection, row.id, CALLER))
    assert not database.transact(lambda c: batch_work.publish(c, work, [NewLine(QUEUE, 0, 0)]))
    assert statuses(database) == {}


def test_files_rows_and_end_come_together(database: Database) -> None:
    row = add(database, lines=2)
    finish(database, claim(database, 2))
    work, output = took(database), new_file("output.jsonl")
    assert database.transact(lambda connection: batch_work.complete(connection, work, output, None))
    now = find(database, row)
    assert (now.status, now.output_file_id, now.error_file_id) == ("completed", output.id, None)
    assert now.completed_at is not None
    assert statuses(database) == {}
    assert database.read(lambda connection: files.find(connection, output.id, CALLER)) is not None
    assert not database.transact(lambda c: batch_work.complete(c, work, new_file("again.jsonl"), None))
    assert len(database.read(lambda c: files.page(c, files.FileFilter(CALLER, 10)))) == 1


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "expired"])
def test_an_end_is_told_by_a_webhook_that_is_written_with_it(database: Database, end: str) -> None:
    events = "batch.completed batch.failed batch.cancelled batch.expired"
    hook = {"base": "http://s", "url": "https://h.example/a", "origin": "https://h.example", "events": events}
    window: dict[str, Any] = {"window_seconds": -1} if end == "expired" else {}
    row = add(database, lines=0 if end == "failed" else 1, webhook=json.dumps(hook), **window)
    if end == "completed":
        finish(database, claim(database, 1))
    if end == "cancelled":
        database.transact(lambda connection: batches.request_cancel(connection, row.id, CALLER))
    if end == "expired":
        database.transact(lambda connection: batches.close_windows(connection, 5))
    work = took(database)
    if end == "failed":
        database.transact(lambda connection: batch_work.fail(connection, work, "[]"))
    else:
        database.transact(lambda connection: batch_work.complete(connection, work, None, None))
    assert find(database, row).status == end
    [delivery] = database.read(lambda connection: deliveries.page(connection, DeliveryFilter(CALLER, 5)))
    assert (delivery.event, delivery.job_id, delivery.url) == (f"batch.{end}", row.id, hook["url"])


def lose(database: Database, most_lost: int = 0, limit: int = 10) -> list[int]:
    """Have a worker die that took lines."""
    worker_id = register(database, new_id("worker"), lease_seconds=-1)
    claim(database, limit, worker_id, most_lost)
    database.transact(workers.requeue_lost)
    return database.transact(batch_upkeep.requeue_lost)


def test_lines_of_a_lost_worker_are_suspects_and_end_at_the_third_loss(database: Database) -> None:
    row = add(database, lines=3)
    register(database, "worker_a")
    mine = claim(database, 1)
    assert len(lose(database)) == 2
    assert counts(database, row) == ("in_progress", 0, 0)
    assert claim(database, 5) == []
    assert len(lose(database, most_lost=1)) == 2
    assert claim(database, 5, most_lost=1) == []
    assert len(lose(database, most_lost=2, limit=1)) == 1
    assert counts(database, row) == ("in_progress", 0, 1)
    walked = database.read(lambda connection: batch_lines.walk(connection, row.number, -1, 5))
    assert [one.error for one in walked] == ["worker_lost"]
    finish(database, [*mine, *claim(database, 1, "worker_a", most_lost=2)])
    assert counts(database, row) == ("finalizing", 2, 1)


def test_lines_that_are_lost_while_their_batch_is_paused_stay(database: Database) -> None:
    row = add(database, lines=2)
    worker_id = register(database, "worker_b", lease_seconds=-1)
    claim(database, 1, worker_id)
    database.transact(lambda connection: batches.set_paused(connection, row.id, CALLER, paused=True))
    database.transact(workers.requeue_lost)
    database.transact(batch_upkeep.requeue_lost)
    assert statuses(database) == {"held": 2}


def test_a_line_runs_again_when_its_moment_has_come(database: Database) -> None:
    add(database, lines=2)
    soon, later = claim(database, 2)
    released = [LineRelease(soon.id, 1, -1.0, counts_as_error=True), LineRelease(later.id, 1, 60.0)]
    database.write(batch_lines.release, released)
    assert claim(database, 2) == []
    database.transact(batch_upkeep.release_scheduled)
    assert [(one.id, one.errors) for one in claim(database, 2)] == [(soon.id, 1)]


def test_lines_whose_model_was_removed_end(database: Database) -> None:
    rows = [QueueRow(QUEUE, "text", "echo", "cpu0", 0), QueueRow("text.other.cpu0", "text", "other", "cpu0", 0)]
    database.transact(lambda connection: queues.declare(connection, rows))
    row = add(database, lines=2)
    assert database.transact(lambda connection: batch_upkeep.fail_removed_models(connection, ["echo"])) == 0
    assert database.transact(lambda connection: batch_upkeep.fail_removed_models(connection, ["other"])) == 2
    assert counts(database, row) == ("finalizing", 0, 2)


def test_lines_move_to_a_sibling_and_are_counted_where_they_wait(database: Database) -> None:
    names = (QUEUE, "text.echo.cpu1")
    rows = [QueueRow(name, "text", "echo", name.rpartition(".")[2], 0) for name in names]
    database.transact(lambda connection: queues.declare(connection, rows))
    add(database, lines=5)
    claim(database, 1)
    depth = database.read(queues.depths)[QUEUE]
    assert (depth.lines, depth.running_lines, depth.queued) == (4, 1, 0)
    assert database.transact(lambda connection: batch_upkeep.move(connection, *names)) == 4
    assert database.read(lambda connection: queues.claimable_up_to(connection, 3))[names[1]].lines == 3
    assert database.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(lines_table)).scalar()) == 5


def test_lines_of_a_paused_batch_move_too_and_run_there_when_it_goes_on(database: Database) -> None:
    row, sibling = add(database, lines=3), "text.echo.cpu1"
    database.transact(lambda connection: batches.set_paused(connection, row.id, CALLER, paused=True))
    assert database.transact(lambda connection: batch_upkeep.move(connection, QUEUE, sibling)) == 3
    assert statuses(database) == {"held": 3}
    database.transact(lambda connection: batches.set_paused(connection, row.id, CALLER, paused=False))
    assert claim(database, 5) == []
    assert len(database.write(batch_lines.claim, LineClaim(sibling, "worker_a", 5))) == 3
