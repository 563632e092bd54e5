"""Claiming, finishing and giving back jobs, on SQLite and on Postgres."""

import json
import time
from dataclasses import replace

import pytest

from schemas.jobs import Status
from storage import claims, jobs, queues, retention, workers
from storage.claims import Claim, Claimed, Ending, Release
from storage.database import Database
from storage.queues import QueueRow
from storage.rows import ClaimedJob
from tests.contract.sql import QUEUE, claim, claim_one, finish, row, status_of, submit


def wish(database: Database, *wishes: Claim) -> list[Claimed]:
    return database.transact(lambda connection: claims.claim(connection, wishes))


def release(database: Database, job: ClaimedJob, after: float | None = None, *, counts: bool = False) -> str | None:
    return database.write(claims.release, Release(job.id, job.attempt, after, counts))


def has_more(database: Database, most_lost: int = 0) -> bool:
    return database.read(lambda connection: claims.has_more(connection, QUEUE, most_lost))


def make_suspect(database: Database, times: int = 1) -> str:
    """A job whose worker was lost that many times."""
    job_id = submit(database, rank=-1.0)
    for turn in range(times):
        claim_one(database, f"gone_{job_id}_{turn}", most_lost=turn)
        database.transact(workers.requeue_lost)
    return job_id


def test_a_claim_tells_the_worker_all_it_needs(database: Database) -> None:
    job_id = submit(database, rank=1.5, max_attempts=2, timeout_seconds=7, retention_seconds=8, request_id="req_1")
    claimed, stored = claim_one(database), row(database, job_id)
    same = set(ClaimedJob.__dataclass_fields__) - {"input", "object_key"}
    assert {name: getattr(claimed, name) for name in same} == {name: getattr(stored, name) for name in same}
    assert (stored.status, stored.owner, stored.attempt) == ("running", "worker_a", 1)
    assert stored.started_at == pytest.approx(time.time(), abs=5)
    assert json.loads(claimed.input or "") == {"prompt": "hello"}


def test_the_smallest_rank_is_claimed_first(database: Database) -> None:
    for rank in (3.0, 1.0, 2.0, -5.0, 4.0):
        submit(database, rank=rank)
    assert [claim_one(database).rank for _ in range(2)] == [-5.0, 1.0]
    assert [job.rank for job in claim(database, limit=10)] == [2.0, 3.0, 4.0]


def test_a_claim_takes_at_most_its_limit_and_says_whether_there_are_more(database: Database) -> None:
    for _ in range(5):
        submit(database)
    for limit, taken, more in ((2, 2, True), (3, 3, False), (1, 0, False)):
        [claimed] = wish(database, Claim(QUEUE, "worker_a", limit))
        assert (len(claimed.jobs), claimed.more) == (taken, more)


def test_only_the_named_queue_is_claimed(database: Database) -> None:
    submit(database, queue="text.echo.cpu1")
    assert claim(database) == []
    assert not has_more(database)


def test_an_expired_job_is_never_claimed(database: Database) -> None:
    submit(database, rank=0.0, expires_at=time.time() - 0.01)
    good = submit(database, rank=1.0)
    assert [job.id for job in claim(database, limit=5)] == [good]


def test_a_scheduled_job_is_claimed_once_it_is_released(database: Database) -> None:
    job_id = submit(database, run_at=time.time() - 1)
    assert claim(database) == []
    assert not has_more(database)
    database.transact(retention.release_scheduled)
    assert claim_one(database).id == job_id


def test_a_paused_queue_is_never_claimed(database: Database) -> None:
    rows = [QueueRow(QUEUE, "text", "echo", "cpu0", 0)]
    database.transact(lambda connection: queues.declare(connection, rows))
    job_id = submit(database)
    database.transact(lambda connection: queues.pause(connection, QUEUE, paused=True))
    assert claim(database) == []
    database.transact(lambda connection: queues.pause(connection, QUEUE, paused=False))
    assert claim_one(database).id == job_id


def test_suspects_wait_in_a_lane_of_their_own(database: Database) -> None:
    twice, once, clean = make_suspect(database, 2), make_suspect(database), submit(database)
    assert has_more(database, most_lost=1)
    assert [job.id for job in claim(database, limit=5)] == [clean]
    assert [(job.id, job.lost) for job in claim(database, limit=5, most_lost=1)] == [(once, 1)]
    assert not has_more(database, most_lost=1)
    assert has_more(database, most_lost=2)
    assert [(job.id, job.lost) for job in claim(database, limit=5, most_lost=2)] == [(twice, 2)]
    assert not has_more(database, most_lost=2)


def test_wishes_of_a_group_share_the_best_rows(database: Database) -> None:
    suspect = make_suspect(database)
    for rank in range(6):
        submit(database, rank=float(rank))
    submit(database, queue="text.other.cpu0")
    mine, theirs = Claim(QUEUE, "worker_a", 2), Claim(QUEUE, "worker_b", 1)
    answers = wish(
        database,
        mine,
        Claim("text.other.cpu0", "worker_a"),
        theirs,
        replace(mine, limit=1),
        replace(mine, most_lost=1),
    )
    assert [[job.rank for job in answer.jobs] for answer in answers[:1]] == [[0.0, 1.0]]
    assert [len(answer.jobs) for answer in answers] == [2, 1, 1, 1, 1]
    assert [answer.more for answer in answers] == [True, False, True, True, False]
    assert answers[4].jobs[0].id == suspect
    assert row(database, answers[2].jobs[0].id).owner == "worker_b"
    assert len({job.id for answer in answers for job in answer.jobs}) == 6


def test_wishes_for_more_than_there_is(database: Database) -> None:
    submit(database)
    answers = wish(database, *[Claim(QUEUE, "worker_a")] * 3)
    assert [len(answer.jobs) for answer in answers] == [1, 0, 0]
    assert not any(answer.more for answer in answers)


def test_finish_stores_the_outcome(database: Database) -> None:
    submit(database, retention_seconds=500)
    job = claim_one(database)
    outcome = {"output": '{"a":"é"}', "artifacts": "[]", "error": None, "usage": '{"u":1}', "metrics": '{"m":1}'}
    assert finish(database, job, Status.SUCCEEDED, **outcome)
    stored = row(database, job.id)
    assert {name: getattr(stored, name) for name in outcome} == outcome
    assert (stored.status, stored.attempt) == ("succeeded", 1)
    assert stored.finished_at == pytest.approx(time.time(), abs=5)
    assert stored.retained_until == pytest.approx((stored.finished_at or 0) + 500, abs=0.01)


def test_a_group_finishes_each_in_its_own_way(database: Database) -> None:
    for _ in range(4):
        submit(database)
    claimed = claim(database, limit=4)
    stale = replace(claimed[3], attempt=9)
    endings = [
        Ending(claimed[0].id, 1, Status.SUCCEEDED, output='"0"'),
        Ending(stale.id, stale.attempt, Status.SUCCEEDED),
        Ending(claimed[1].id, 1, Status.FAILED, error='{"code":"timeout"}'),
        Ending("job_unknown", 1, Status.SUCCEEDED),
        Ending(claimed[2].id, 1, Status.CANCELED),
    ]
    assert database.transact(lambda connection: claims.finish(connection, endings)) == [True, False, True, False, True]
    assert [status_of(database, job.id) for job in claimed] == ["succeeded", "failed", "canceled", "running"]
    assert row(database, claimed[0].id).output == '"0"'
    assert row(database, claimed[1].id).error == '{"code":"timeout"}'


def test_two_different_endings_of_one_attempt_in_one_group(database: Database) -> None:
    submit(database)
    job = claim_one(database)
    endings = [Ending(job.id, 1, Status.SUCCEEDED, output=text) for text in ('"a"', '"b"')]
    answers = database.transact(lambda connection: claims.finish(connection, endings))
    assert sorted(answers) == [False, True]
    assert row(database, job.id).output == endings[answers.index(True)].output


def test_a_replaced_attempt_cannot_finish(database: Database) -> None:
    submit(database)
    old = claim_one(database)
    release(database, old)
    assert not finish(database, old)
    new = claim_one(database, "worker_b")
    assert new.attempt == 2
    assert not finish(database, old, output='"old"')
    assert finish(database, new, output='"new"')
    assert not finish(database, old, output='"old"')
    assert row(database, new.id).output == '"new"'


@pytest.mark.parametrize("size", [1, 2])
def test_an_ending_is_repeated_with_the_same_answer_and_never_changed(database: Database, size: int) -> None:
    """The worker that never got its commit's answer sends the ending again, and must not drop its bytes."""
    for _ in range(size):
        submit(database)
    claimed = claim(database, limit=size)
    endings = [Ending(job.id, 1, Status.SUCCEEDED, output=f'"{job.id}"', artifacts="[1]") for job in claimed]
    for _ in range(2):
        assert database.transact(lambda connection: claims.finish(connection, endings)) == [True] * size
    before = [row(database, job.id) for job in claimed]
    for changes in ({"output": '"x"'}, {"artifacts": None}, {"status": Status.FAILED}, {"attempt": 2}):
        others = [replace(ending, **changes) for ending in endings]
        assert database.transact(lambda connection: claims.finish(connection, others)) == [False] * size  # noqa: B023 - runs at once
    assert [row(database, job.id) for job in claimed] == before


def test_a_job_that_was_never_claimed_cannot_finish(database: Database) -> None:
    job_id = submit(database)
    assert not database.write(claims.finish, Ending(job_id, 0, Status.SUCCEEDED))
    assert status_of(database, job_id) == "queued"


def test_a_drained_job_is_queued_again_without_blame(database: Database) -> None:
    job_id = submit(database, rank=5.0)
    job = claim_one(database)
    assert release(database, job) == "queued"
    stored = row(database, job_id)
    assert (stored.owner, stored.errors, stored.lost, stored.run_at, stored.rank) == (None, 0, 0, None, 5.0)
    assert claim_one(database).attempt == 2


def test_a_retryable_error_is_counted_and_waits(database: Database) -> None:
    job_id = submit(database)
    assert release(database, claim_one(database), 60.0, counts=True) == "queued"
    stored = row(database, job_id)
    assert stored.errors == 1
    assert stored.run_at == pytest.approx(time.time() + 60, abs=5)
    assert claim(database) == []


@pytest.mark.parametrize("after", [None, 60.0])
def test_a_released_job_that_was_asked_to_stop_is_canceled(database: Database, after: float | None) -> None:
    job_id = submit(database)
    job = claim_one(database)
    database.transact(lambda connection: jobs.cancel(connection, job_id))
    assert release(database, job, after, counts=True) == "canceled"
    stored = row(database, job_id)
    assert (stored.owner, stored.run_at) == (None, None)
    assert stored.finished_at is not None
    assert stored.retained_until == pytest.approx(stored.finished_at + 3600, abs=0.01)


def test_a_replaced_attempt_cannot_release(database: Database) -> None:
    submit(database)
    job = claim_one(database)
    assert release(database, replace(job, attempt=2)) is None
    assert finish(database, job)
    assert release(database, job) is None
    assert status_of(database, job.id) == "succeeded"


def test_a_group_of_releases_answers_each(database: Database) -> None:
    for _ in range(2):
        submit(database)
    first, second = claim(database, limit=2)
    asked = [Release(first.id, 1), Release(second.id, 7), Release(second.id, 1, 5.0)]
    assert database.transact(lambda connection: claims.release(connection, asked)) == ["queued", None, "queued"]
