"""Rows that two want at once on Postgres: nobody waits for ever, and a deadlock is nobody's failure."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from schemas.errors import DatabaseFaultError
from schemas.jobs import Status
from storage import claims, dialects, jobs, workers
from storage.claims import Ending, Release
from storage.database import Database
from storage.idempotency import Admitted
from storage.tables import jobs as table
from tests.contract.sql import claim, claim_one, finish, new_job, row, status_of, submit

PATIENCE_SECONDS = 60.0
LOCK = sa.select(table.c.id).with_for_update()


@pytest.fixture
def second(postgres: Database, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Another process' door to the same database, with the settings that the test names."""
    monkeypatch.setitem(dialects.POSTGRES_CONNECT, "options", request.param)
    database = Database(postgres.engine.url.render_as_string(hide_password=False))
    yield database
    database.close()


@pytest.mark.parametrize("second", ["-c idle_in_transaction_session_timeout=300ms"], indirect=True)
def test_who_stops_in_the_middle_of_a_transaction_is_thrown_out(postgres: Database, second: Database) -> None:
    job_id = submit(postgres)
    connection = second.engine.connect()
    connection.execute(LOCK)
    canceled = postgres.transact(lambda connection: jobs.cancel(connection, job_id))
    assert canceled.ended is not None
    with pytest.raises(sa.exc.DBAPIError):
        connection.execute(LOCK)
    connection.close()


@pytest.mark.parametrize("second", ["-c lock_timeout=200ms"], indirect=True)
def test_who_waits_too_long_for_a_row_is_told_so(postgres: Database, second: Database) -> None:
    job_id = submit(postgres)
    with postgres.engine.begin() as connection:
        connection.execute(LOCK)
        with pytest.raises(DatabaseFaultError, match="lock timeout"):
            second.transact(lambda connection: jobs.cancel(connection, job_id))
    assert second.transact(lambda connection: jobs.cancel(connection, job_id)).ended is not None


def test_a_locked_row_is_passed_by_and_the_next_is_claimed(postgres: Database) -> None:
    first, second = submit(postgres, rank=1.0), submit(postgres, rank=2.0)
    with postgres.engine.begin() as connection:
        connection.execute(LOCK.where(table.c.id == first))
        assert claim_one(postgres).id == second
        assert claim(postgres) == []
    assert claim_one(postgres).id == first


def test_sweeps_leave_locked_rows_to_whoever_holds_them(postgres: Database) -> None:
    submit(postgres)
    job = claim_one(postgres, "gone")
    with postgres.engine.begin() as connection:
        connection.execute(LOCK)
        assert postgres.transact(workers.requeue_lost) == []
    assert finish(postgres, job)
    assert postgres.transact(workers.requeue_lost) == []


def test_a_deadlock_runs_its_loser_anew(postgres: Database) -> None:
    ids = [submit(postgres), submit(postgres)]
    both_hold_one = threading.Barrier(2, timeout=PATIENCE_SECONDS)
    runs: list[str] = []

    def cancel_both(first: str, second: str) -> None:
        def work(connection: sa.Connection) -> None:
            runs.append(first)
            jobs.cancel(connection, first)
            if len(runs) <= 2:  # its second run finds the way free
                both_hold_one.wait()
            jobs.cancel(connection, second)

        postgres.transact(work)

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(cancel_both, *ids), threads.submit(cancel_both, *reversed(ids))]:
            done.result(PATIENCE_SECONDS)
    assert len(runs) == 3
    assert [status_of(postgres, one) for one in ids] == ["canceled", "canceled"]


def test_a_cancel_that_meets_a_claim_is_not_lost(postgres: Database) -> None:
    """It waits for the row, and then sees a running job."""
    job_id = submit(postgres)
    with ThreadPoolExecutor(1) as threads:
        with postgres.engine.begin() as connection:
            [claimed] = claims.claim(connection, [claims.Claim(row(postgres, job_id).queue, "worker_a")])
            canceling = threads.submit(postgres.transact, lambda c: jobs.cancel(c, job_id))
            wait_until_somebody_waits(postgres)
        assert canceling.result(PATIENCE_SECONDS).owner == "worker_a"
    assert claimed.jobs[0].id == job_id
    assert row(postgres, job_id).cancel_requested == 1


def test_a_cancel_that_meets_a_release_is_not_lost(postgres: Database) -> None:
    """It waits for the row, and then sees a queued job."""
    job_id = submit(postgres)
    job = claim_one(postgres)
    with ThreadPoolExecutor(1) as threads:
        with postgres.engine.begin() as connection:
            claims.release(connection, [Release(job.id, job.attempt)])
            canceling = threads.submit(postgres.transact, lambda c: jobs.cancel(c, job_id))
            wait_until_somebody_waits(postgres)
        assert canceling.result(PATIENCE_SECONDS).ended is not None
    assert status_of(postgres, job_id) == "canceled"


def test_two_endings_of_one_attempt_race_and_one_wins(postgres: Database) -> None:
    submit(postgres)
    job = claim_one(postgres)
    with ThreadPoolExecutor(1) as threads:
        with postgres.engine.begin() as connection:
            ours = claims.finish(connection, [Ending(job.id, 1, Status.SUCCEEDED, output='"ours"')])
            other = Ending(job.id, 1, Status.FAILED, error='"theirs"')
            theirs = threads.submit(postgres.transact, lambda c: claims.finish(c, [other]))
            wait_until_somebody_waits(postgres)
        assert (ours, theirs.result(PATIENCE_SECONDS)) == ([True], [False])
    assert row(postgres, job.id).output == '"ours"'


def test_a_repeated_submission_waits_for_the_first(postgres: Database) -> None:
    """The idempotency key's row is not there yet for others, and still there is one job."""
    first = jobs.Submission(new_job(), "{}", None, "key", "print")
    second = jobs.Submission(new_job(), "{}", None, "key", "print")
    with ThreadPoolExecutor(1) as threads:
        with postgres.engine.begin() as connection:
            assert jobs.submit(connection, [first])[0].is_new
            replay = threads.submit(postgres.write, jobs.submit, second)
            wait_until_somebody_waits(postgres)
        assert replay.result(PATIENCE_SECONDS) == Admitted(first.job.id, is_new=False)


def wait_until_somebody_waits(database: Database) -> None:
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    for _ in range(int(PATIENCE_SECONDS * 100)):
        if database.read(lambda connection: connection.execute(query).scalar_one()):
            return
        threading.Event().wait(0.01)
    raise AssertionError("nobody waits for a lock")
