"""Queues as SQL sees them: declared, counted, paused, purged, moved; on SQLite and on Postgres."""

import time
from collections.abc import Callable

import sqlalchemy as sa

from storage import queues, workers
from storage.database import Database
from storage.queues import Depth, QueueRow
from tests.contract import test_sql_batches as batches
from tests.contract.sql import QUEUE, claim, claim_one, finish, row, status_of, submit

SIBLING = "text.echo.cpu1"


def do(database: Database, work: Callable[..., object], *arguments: object, **options: object) -> object:
    def run(connection: sa.Connection) -> object:
        return work(connection, *arguments, **options)

    return database.transact(run)


def declare(database: Database, *names: str) -> None:
    do(database, queues.declare, [QueueRow(name, "text", "echo", name[-4:], paused=0) for name in names])


def fill(database: Database) -> dict[str, str]:
    """One job in each lane of the usual queue, two clean ones, and one that ended."""
    ids = {"suspect": submit(database)}
    claim_one(database, "gone")
    do(database, workers.requeue_lost)
    ids |= {"ended": submit(database), "running": submit(database)}
    finish(database, claim(database, limit=2)[0])
    ids |= {"clean": submit(database), "other": submit(database)}
    ids |= {"scheduled": submit(database, run_at=time.time() + 900)}
    return ids


def test_queues_are_declared_once_and_keep_their_pause(database: Database) -> None:
    declare(database, SIBLING, QUEUE)
    do(database, queues.pause, QUEUE, paused=True)
    declare(database, QUEUE, SIBLING)
    do(database, queues.declare, [])
    assert database.read(queues.all_queues) == [
        QueueRow(QUEUE, "text", "echo", "cpu0", 1),
        QueueRow(SIBLING, "text", "echo", "cpu1", 0),
    ]


def test_pausing_an_unknown_queue_says_so(database: Database) -> None:
    declare(database, QUEUE)
    assert do(database, queues.pause, QUEUE, paused=False) is True
    assert do(database, queues.pause, SIBLING, paused=True) is False


def test_no_line_of_a_paused_queue_is_claimed(database: Database) -> None:
    declare(database, QUEUE)
    batches.add(database, lines=2)
    do(database, queues.pause, QUEUE, paused=True)
    assert batches.claim(database, 2) == []
    do(database, queues.pause, QUEUE, paused=False)
    assert len(batches.claim(database, 2)) == 2


def test_depths_count_every_lane(database: Database) -> None:
    fill(database)
    submit(database, queue=SIBLING)
    depths = database.read(queues.depths)
    assert depths == {QUEUE: Depth(2, 1, 1, 1), SIBLING: Depth(claimable=1)}
    assert depths[QUEUE].queued == 4


def test_no_jobs_are_no_depths(database: Database) -> None:
    declare(database, QUEUE)
    assert database.read(queues.depths) == {}


def test_claimable_jobs_are_counted_up_to_a_limit_where_nothing_is_paused(database: Database) -> None:
    declare(database, QUEUE, SIBLING, "text.echo.cpu2")
    fill(database)
    submit(database, queue=SIBLING)
    do(database, queues.pause, SIBLING, paused=True)

    def count(limit: int) -> dict[str, Depth]:
        return database.read(lambda connection: queues.claimable_up_to(connection, limit))

    assert count(10) == {QUEUE: Depth(2, 1), "text.echo.cpu2": Depth()}
    assert count(1) == {QUEUE: Depth(1, 1), "text.echo.cpu2": Depth()}


def test_purge_cancels_what_waits_and_nothing_else(database: Database) -> None:
    ids = fill(database)
    spared = submit(database, queue=SIBLING)
    purged = do(database, queues.purge, QUEUE)
    assert isinstance(purged, list)
    waiting = {ids[name] for name in ("suspect", "clean", "other", "scheduled")}
    assert {ended.id for ended in purged} == waiting
    assert {(ended.status, ended.queue) for ended in purged} == {("canceled", QUEUE)}
    assert [status_of(database, ids[name]) for name in ("running", "ended")] == ["running", "succeeded"]
    assert status_of(database, spared) == "queued"
    assert row(database, ids["clean"]).retained_until is not None
    assert do(database, queues.purge, QUEUE) == []


def test_moved_jobs_stand_by_their_age_in_the_sibling(database: Database) -> None:
    ids = fill(database)
    submit(database, queue=SIBLING, rank=0.0)
    assert do(database, queues.move, QUEUE, SIBLING) == 4
    assert claim(database, limit=9) == []
    assert database.read(queues.depths) == {QUEUE: Depth(running=1), SIBLING: Depth(3, 1, 1)}
    assert row(database, ids["running"]).queue == QUEUE
    assert do(database, queues.move, QUEUE, SIBLING) == 0
