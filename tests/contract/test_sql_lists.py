"""Listing and counting jobs, on SQLite and on Postgres."""

import json
from typing import Any

import pytest

from schemas.jobs import Status
from storage import jobs, retention
from storage.database import Database
from storage.jobs import Filter
from tests.contract.sql import CALLER, QUEUE, claim, claim_one, finish, submit


def page(database: Database, limit: int = 100, **wanted: Any) -> list[str]:
    chosen = Filter(CALLER, limit, **wanted)
    return [job.id for job in database.read(lambda connection: jobs.page(connection, chosen))]


def submit_with(database: Database, metadata: object) -> str:
    return submit(database, metadata=json.dumps(metadata, ensure_ascii=False, separators=(",", ":")))


def test_the_newest_comes_first_and_one_too_many_says_that_there_are_more(database: Database) -> None:
    ids = [submit(database) for _ in range(5)]
    assert page(database, 10) == ids[::-1]
    assert page(database, 3) == ids[:0:-1]
    assert page(database, 5) == ids[::-1]


def test_a_cursor_continues_after_the_last_one_seen(database: Database) -> None:
    ids = [submit(database) for _ in range(7)]
    seen: list[str] = []
    while found := page(database, 2, after=seen[-1] if seen else None)[:2]:
        seen += found
        submit(database)  # what comes in between is newer, so it neither repeats nor shifts anything
    assert seen == ids[::-1]


def test_a_list_shows_its_callers_visible_jobs(database: Database) -> None:
    mine, deleted = submit(database), submit(database)
    submit(database, caller_id="caller_b")
    finish(database, claim(database, limit=2)[1])
    database.transact(lambda connection: retention.erase(connection, [deleted], hide=True))
    assert page(database) == [mine]


def test_every_filter_narrows(database: Database) -> None:
    plain = submit(database)
    other = submit(database, kind="image", model="paint", queue="image.paint.cpu0")
    assert page(database, kind="image") == [other]
    assert page(database, model="echo") == [plain]
    assert page(database, queue="image.paint.cpu0") == [other]
    assert page(database, queue="image.paint.cpu0", model="echo") == []
    assert page(database, kind="unheard") == []


def test_filter_by_status(database: Database) -> None:
    queued, ended = submit(database, rank=2), submit(database, rank=1)
    finish(database, claim_one(database), Status.FAILED)
    assert page(database, status="queued") == [queued]
    assert page(database, status="failed") == [ended]
    assert page(database, status="expired") == []


def test_filter_by_time_takes_the_beginning_and_leaves_the_end(database: Database) -> None:
    ids = [submit(database, created_at=second) for second in (100.0, 200.0, 300.0)]
    assert page(database, created_after=200.0) == [ids[2], ids[1]]
    assert page(database, created_before=200.0) == [ids[0]]
    assert page(database, created_after=100.5, created_before=300.0) == [ids[1]]


ODD_KEYS = [
    "plain",
    'quo"te',
    "back\\slash",
    "dot.ted",
    "$",
    "",
    "it's",
    "é😀",
    "new\nline",
    "%",
    ":c",
    "a[0]",
    "0",
    '"',
    "\\",
]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_filter_by_metadata_whatever_the_key(database: Database, key: str) -> None:
    wanted = submit_with(database, {"first": 1, key: "yes", "last": [2]})
    submit_with(database, {key: "no"})
    submit_with(database, {key + "x": "yes"})
    submit_with(database, {"in": {key: "yes"}})
    submit(database)
    assert page(database, metadata=((key, "yes"),)) == [wanted]


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        ("text", "text"),
        ("", ""),
        ("é😀'\"\\%_", "é😀'\"\\%_"),
        (7, "7"),
        (-1.5, "-1.5"),
        (True, "true"),
        (False, "false"),
        ("true", "true"),
        ([1, "a"], '[1,"a"]'),
        ({"b": 1}, '{"b":1}'),
    ],
)
def test_filter_by_metadata_whatever_the_value(database: Database, value: object, asked: str) -> None:
    wanted = submit_with(database, {"key": value})
    submit_with(database, {"key": "another"})
    submit_with(database, {"key": None})
    assert page(database, metadata=(("key", asked),)) == [wanted]


def test_null_is_no_value_to_ask_for(database: Database) -> None:
    submit_with(database, {"key": None})
    assert page(database, metadata=(("key", "null"),)) == page(database, metadata=(("key", "None"),)) == []


def test_several_metadata_filters_are_all_meant(database: Database) -> None:
    both = submit_with(database, {"a": "1", "b": "2"})
    submit_with(database, {"a": "1", "b": "3"})
    assert page(database, metadata=(("a", "1"), ("b", "2"))) == [both]


def test_waiting_jobs_are_counted_up_to_a_limit(database: Database) -> None:
    for _ in range(4):
        submit(database)
    submit(database, caller_id="caller_b")
    claim_one(database)

    def count(caller: str, limit: int) -> int:
        return database.read(lambda connection: jobs.count_waiting(connection, caller, limit))

    assert [count(CALLER, limit) for limit in (10, 3, 2)] == [3, 3, 2]
    assert count("caller_c", 10) == 0


def test_jobs_ahead_are_the_claimable_ones_of_a_smaller_rank(database: Database) -> None:
    for rank in (1.0, 2.0, 3.0, 4.0):
        submit(database, rank=rank)
    submit(database, rank=0.5, run_at=9e9)
    submit(database, rank=0.5, queue="text.echo.cpu1")

    def ahead(rank: float, limit: int) -> int:
        return database.read(lambda connection: jobs.count_ahead(connection, QUEUE, rank, limit))

    assert [ahead(rank, 10) for rank in (1.0, 2.5, 9.0)] == [0, 2, 4]
    assert ahead(9.0, 3) == 3
