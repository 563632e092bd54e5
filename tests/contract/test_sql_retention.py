"""Expiry, the release of scheduled jobs and erasing, on SQLite and on Postgres."""

import json
import time

import pytest
import sqlalchemy as sa

from schemas.jobs import Status
from storage import jobs, retention
from storage.database import Database
from storage.idempotency import Admitted
from storage.jobs import Submission
from storage.rows import Ended
from storage.tables import jobs as table
from tests.contract.sql import QUEUE, claim, claim_one, finish, new_job, row, status_of, submit

DAY = 86_400.0


def erase(database: Database, *job_ids: str, hide: bool = False) -> list[str]:
    return database.transact(lambda connection: retention.erase(connection, job_ids, hide=hide))


def forget(database: Database, rows_kept: float = 0, keys_kept: float = DAY, limit: int = 100) -> int:
    return database.transact(lambda connection: retention.forget(connection, rows_kept, keys_kept, limit))


def submit_once(database: Database, age: float = 0) -> Admitted:
    """Submit under one idempotency key."""
    job = new_job(created_at=time.time() - age)
    return database.write(jobs.submit, Submission(job, "{}", None, "key", "print"))


def ended_job(database: Database, **changes: object) -> str:
    job_id = submit(database, rank=-1.0, **changes)
    finish(database, claim_one(database), output='{"a":1}', artifacts='[{"key":"k"}]', usage='{"u":1}')
    return job_id


def test_jobs_expire_when_their_ttl_has_passed(database: Database) -> None:
    old, kept = submit(database, expires_at=time.time() - 1), submit(database)
    scheduled = submit(database, run_at=time.time() + 500, expires_at=time.time() - 1)
    ended = database.transact(retention.expire)
    assert sorted(ended, key=lambda one: one.id) == [
        Ended(id_, "expired", 0, QUEUE) for id_ in sorted((old, scheduled))
    ]
    stored = row(database, old)
    assert stored.finished_at is not None
    assert stored.retained_until == pytest.approx(stored.finished_at + 3600, abs=0.01)
    assert status_of(database, kept) == "queued"
    assert database.transact(retention.expire) == []


def test_a_running_job_does_not_expire(database: Database) -> None:
    job_id = submit(database)
    job = claim_one(database)
    database.transact(lambda connection: connection.execute(sa.update(table).values(expires_at=time.time() - 1)))
    assert database.transact(retention.expire) == []
    assert finish(database, job)
    assert status_of(database, job_id) == "succeeded"


def test_scheduled_jobs_are_released_when_their_time_has_come(database: Database) -> None:
    due = submit(database, run_at=time.time() - 1)
    submit(database, run_at=time.time() - 1, queue="text.echo.cpu1")
    later = submit(database, run_at=time.time() + 500)
    assert database.transact(retention.release_scheduled) == [QUEUE, "text.echo.cpu1"]
    assert database.transact(retention.release_scheduled) == []
    assert row(database, due).run_at is None
    assert row(database, later).run_at is not None


def test_jobs_of_a_removed_model_fail(database: Database) -> None:
    gone, kept = submit(database, model="gone"), submit(database)
    [ended] = database.transact(lambda connection: retention.fail_removed_models(connection, ["echo", "other"]))
    assert ended == Ended(gone, "failed", 0, QUEUE)
    stored = row(database, gone)
    assert json.loads(stored.error or "")["code"] == "model_removed"
    assert stored.retained_until is not None
    assert status_of(database, kept) == "queued"


def test_a_running_job_of_a_removed_model_goes_on(database: Database) -> None:
    submit(database, model="gone")
    job = claim_one(database)
    assert database.transact(lambda connection: retention.fail_removed_models(connection, ["echo"])) == []
    assert finish(database, job)


def test_retention_passes_from_the_end_on(database: Database) -> None:
    short, long = ended_job(database, retention_seconds=0.0), ended_job(database)
    submit(database, retention_seconds=0.0)
    time.sleep(0.01)
    assert database.read(lambda connection: retention.past_retention(connection, 10)) == {short: True}
    erase(database, short)
    assert database.read(lambda connection: retention.past_retention(connection, 10)) == {}
    assert status_of(database, long) == "succeeded"


def test_past_retention_says_who_has_objects(database: Database) -> None:
    without = submit(database, rank=-1.0, retention_seconds=0.0)
    finish(database, claim_one(database), output='{"a":1}', artifacts="[]")
    failed = submit(database, rank=-1.0, retention_seconds=0.0)
    finish(database, claim_one(database), Status.FAILED)
    large = new_job(rank=-1.0, retention_seconds=0.0)
    database.write(jobs.submit, Submission(large, None, "jobs/large/input.json"))
    finish(database, claim_one(database), artifacts="[]")
    time.sleep(0.01)
    found = database.read(lambda connection: retention.past_retention(connection, 10))
    assert found == {without: False, failed: False, large.id: True}


def test_past_retention_is_limited(database: Database) -> None:
    for _ in range(3):
        ended_job(database, retention_seconds=0.0)
    time.sleep(0.01)
    assert len(database.read(lambda connection: retention.past_retention(connection, 2))) == 2


def test_an_erased_job_keeps_its_record_and_loses_its_content(database: Database) -> None:
    job_id = ended_job(database, metadata='{"m":1}')
    assert erase(database, job_id) == [job_id]
    stored = row(database, job_id)
    assert (stored.output, stored.artifacts) == (None, None)
    assert (stored.status, stored.metadata, stored.usage) == ("succeeded", '{"m":1}', '{"u":1}')
    assert stored.erased_at == pytest.approx(time.time(), abs=5)
    assert database.read(lambda connection: jobs.find_input(connection, job_id)) is None


def test_a_hidden_job_is_a_tombstone(database: Database) -> None:
    job_id = ended_job(database, metadata='{"m":1}')
    assert erase(database, job_id, hide=True) == [job_id]
    assert database.read(lambda connection: jobs.find(connection, job_id)) is None
    query = sa.select(table.c.metadata, table.c.deleted_at, table.c.output).where(table.c.id == job_id)
    tombstone = database.read(lambda connection: connection.execute(query).one())
    assert (tombstone.metadata, tombstone.output) == (None, None)
    assert tombstone.deleted_at is not None


def test_only_terminal_jobs_are_erased(database: Database) -> None:
    running, queued = submit(database, rank=1.0), submit(database, rank=2.0)
    claim_one(database)
    assert erase(database, running, queued, "job_unknown", hide=True) == []
    assert erase(database) == []
    assert database.read(lambda connection: jobs.find_input(connection, queued)) is not None
    assert [status_of(database, one) for one in (running, queued)] == ["running", "queued"]


def test_rows_are_forgotten_long_after_they_were_erased(database: Database) -> None:
    erased, kept = ended_job(database), ended_job(database)
    erase(database, erased)
    assert forget(database, rows_kept=100) == 0
    time.sleep(0.01)
    assert forget(database) == 1
    assert forget(database) == 0
    assert database.read(lambda connection: jobs.statuses(connection, [erased, kept])) == {kept: "succeeded"}


def test_forgetting_is_limited(database: Database) -> None:
    erase(database, *[ended_job(database) for _ in range(3)])
    time.sleep(0.01)
    assert [forget(database, limit=2) for _ in range(3)] == [2, 1, 0]


def test_an_idempotency_key_is_remembered_for_its_time(database: Database) -> None:
    first = submit_once(database, age=DAY - 100)
    finish(database, claim_one(database))
    forget(database)
    assert submit_once(database).job_id == first.job_id


def test_old_idempotency_keys_are_forgotten_step_by_step(database: Database) -> None:
    for number in range(3):
        job = new_job(created_at=time.time() - DAY - 100)
        database.write(jobs.submit, Submission(job, "{}", None, f"key{number}", "print"))
        finish(database, claim_one(database))
    assert [forget(database, rows_kept=DAY, limit=2) for _ in range(3)] == [2, 1, 0]


def test_an_idempotency_key_is_forgotten_after_its_time(database: Database) -> None:
    first = submit_once(database, age=DAY + 100)
    finish(database, claim_one(database))
    forget(database)
    again = submit_once(database)
    assert again.is_new
    assert again.job_id != first.job_id


@pytest.mark.parametrize("is_running", [False, True])
def test_an_old_idempotency_key_holds_while_its_job_lives(database: Database, is_running: bool) -> None:  # noqa: FBT001 - a parameter
    first = submit_once(database, age=DAY + 100)
    if is_running:
        claim_one(database)
    forget(database)
    assert submit_once(database).job_id == first.job_id


def test_objects_belong_to_jobs_that_are_not_erased(database: Database) -> None:
    queued, running, ended, erased = (submit(database) for _ in range(4))
    for job in claim(database, limit=4):
        if job.id in {ended, erased}:
            finish(database, job, Status.FAILED)
    erase(database, erased)
    asked = [queued, running, ended, erased, "job_unknown"]
    found = database.read(lambda connection: retention.referenced_objects(connection, asked))
    assert found == {queued: True, running: True, ended: True, erased: False}
    assert database.read(lambda connection: retention.referenced_objects(connection, [])) == {}
