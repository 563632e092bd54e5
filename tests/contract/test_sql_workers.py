"""Workers' leases, and what happens to the jobs of a lost one, on SQLite and on Postgres."""

import json
import time

import pytest

from schemas.jobs import Status
from storage import claims, jobs, workers
from storage.claims import Claim
from storage.database import Database
from storage.rows import ClaimedJob, Ended
from storage.workers import Beat, Held, Pulse
from tests.contract.sql import QUEUE, claim, claim_one, finish, register, row, status_of, submit


def beat(database: Database, worker_id: str = "worker_a", lease_seconds: float = 60) -> Pulse:
    return database.write(workers.beat, Beat(worker_id, lease_seconds, "ready", 2, '{"s":1}'))


def requeue_lost(database: Database) -> list[Ended]:
    return database.transact(workers.requeue_lost)


def lose(database: Database, most_lost: int = 0) -> ClaimedJob:
    """Claim a job by a worker that is lost at once."""
    owner = register(database, f"lost_{time.time_ns()}", lease_seconds=-1)
    return claim_one(database, owner, most_lost)


def test_a_registered_worker_is_seen(database: Database) -> None:
    register(database)
    [worker] = database.read(workers.living)
    assert (worker.id, worker.queue, worker.state, worker.slots, worker.in_flight) == (
        "worker_a",
        QUEUE,
        "ready",
        4,
        0,
    )
    assert worker.started_at == worker.beat_at == pytest.approx(time.time(), abs=5)
    assert worker.lease_until == pytest.approx(worker.started_at + 60, abs=0.1)


def test_a_worker_without_a_lease_is_not_alive(database: Database) -> None:
    register(database, lease_seconds=-1)
    assert database.read(workers.living) == []


def test_a_beat_extends_the_lease_and_says_how_the_worker_is(database: Database) -> None:
    register(database, lease_seconds=1)
    assert beat(database, lease_seconds=500) == Pulse(alive=True)
    [worker] = database.read(workers.living)
    assert worker.lease_until == pytest.approx(time.time() + 500, abs=5)
    assert (worker.in_flight, worker.stats) == (2, '{"s":1}')
    assert requeue_lost(database) == []


def test_a_beat_brings_what_the_worker_holds_and_what_it_must_do(database: Database) -> None:
    register(database)
    first, second, other = submit(database, rank=1), submit(database, rank=2), submit(database, rank=3)
    claim(database, limit=2)
    claim_one(database, register(database, "worker_b"))
    database.transact(lambda connection: jobs.cancel(connection, second))
    pulse = beat(database)
    assert set(pulse.held) == {Held(first, 1, cancel_requested=False), Held(second, 1, cancel_requested=True)}
    assert not pulse.drain_requested
    assert database.transact(lambda connection: workers.request_drain(connection, "worker_a"))
    assert beat(database).drain_requested
    assert [held.job_id for held in beat(database, "worker_b").held] == [other]


def test_drain_is_asked_of_the_named_worker_only(database: Database) -> None:
    register(database)
    register(database, "worker_b")
    assert database.transact(lambda connection: workers.request_drain(connection, "worker_b"))
    assert not database.transact(lambda connection: workers.request_drain(connection, "worker_c"))
    assert not beat(database).drain_requested


def test_a_lost_worker_is_told_so_and_holds_nothing(database: Database) -> None:
    register(database, lease_seconds=-1)
    submit(database)
    claim_one(database)
    requeue_lost(database)
    assert beat(database) == Pulse(alive=False)
    assert beat(database, "worker_unknown") == Pulse(alive=False)


def test_a_late_beat_before_anyone_noticed_keeps_the_jobs(database: Database) -> None:
    register(database, lease_seconds=-1)
    submit(database)
    job = claim_one(database)
    assert beat(database).alive
    assert requeue_lost(database) == []
    assert finish(database, job)


def test_a_worker_that_leaves_is_gone(database: Database) -> None:
    register(database)
    database.transact(lambda connection: workers.leave(connection, "worker_a"))
    assert database.read(workers.living) == []
    assert not beat(database).alive


def test_the_jobs_of_a_lost_worker_are_queued_again_and_counted(database: Database) -> None:
    job_id = submit(database, rank=7.0)
    old = lose(database)
    assert requeue_lost(database) == [Ended(job_id, "queued", 1, QUEUE)]
    stored = row(database, job_id)
    assert (stored.lost, stored.errors, stored.owner, stored.rank) == (1, 0, None, 7.0)
    assert (stored.finished_at, stored.error) == (None, None)
    assert not finish(database, old)
    assert requeue_lost(database) == []
    assert claim_one(database, most_lost=1).attempt == 2


def test_a_living_worker_keeps_its_jobs(database: Database) -> None:
    register(database)
    kept = submit(database, rank=1.0)
    claim_one(database)
    submit(database, rank=2.0)
    lost = lose(database)
    assert [ended.id for ended in requeue_lost(database)] == [lost.id]
    assert status_of(database, kept) == "running"


def test_the_third_loss_fails_the_job(database: Database) -> None:
    job_id = submit(database)
    statuses = []
    for most_lost in (0, 1, 2):
        lose(database, most_lost)
        statuses += [ended.status for ended in requeue_lost(database)]
    assert statuses == ["queued", "queued", "failed"]
    stored = row(database, job_id)
    assert (stored.lost, stored.attempt, stored.owner) == (3, 3, None)
    error = json.loads(stored.error or "")
    assert (error["code"], error["retryable"]) == ("worker_lost", False)
    assert stored.finished_at is not None
    assert stored.retained_until == pytest.approx(stored.finished_at + 3600, abs=0.01)


@pytest.mark.parametrize("losses", [0, 2])
def test_a_lost_job_that_was_asked_to_stop_is_canceled(database: Database, losses: int) -> None:
    job_id = submit(database)
    for most_lost in range(losses):
        lose(database, most_lost)
        requeue_lost(database)
    lose(database, losses)
    database.transact(lambda connection: jobs.cancel(connection, job_id))
    assert [ended.status for ended in requeue_lost(database)] == ["canceled"]
    stored = row(database, job_id)
    assert (stored.status, stored.error) == ("canceled", None)
    assert stored.finished_at is not None


def test_a_claim_by_a_worker_that_was_just_declared_lost_is_found(database: Database) -> None:
    register(database, lease_seconds=-1)
    submit(database)
    requeue_lost(database)
    assert database.write(claims.claim, Claim(QUEUE, "worker_a")).jobs
    assert [ended.status for ended in requeue_lost(database)] == ["queued"]


def test_jobs_that_ended_are_left_alone(database: Database) -> None:
    submit(database)
    job = lose(database)
    assert finish(database, job, Status.FAILED)
    assert requeue_lost(database) == []
    assert row(database, job.id).lost == 0


def test_an_expired_worker_without_jobs_just_goes(database: Database) -> None:
    register(database, lease_seconds=-1)
    assert requeue_lost(database) == []
    assert not beat(database).alive
