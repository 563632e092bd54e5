"""Submitting, finding and canceling jobs, on SQLite and on Postgres."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest

from schemas.errors import InvalidError
from schemas.jobs import TERMINAL, Status
from storage import jobs, retention
from storage.database import Database
from storage.idempotency import Admitted
from storage.jobs import Canceled, Submission
from storage.rows import Ended, JobRow
from tests.contract.sql import CALLER, QUEUE, claim, claim_one, finish, new_job, row, status_of, submit


def find(database: Database, job_id: str, caller_id: str | None = None) -> JobRow | None:
    return database.read(lambda connection: jobs.find(connection, job_id, caller_id))


def cancel(database: Database, job_id: str) -> Canceled:
    return database.transact(lambda connection: jobs.cancel(connection, job_id))


def test_a_submitted_job_is_queued_with_everything_that_was_said(database: Database) -> None:
    job = new_job(metadata='{"a":"é😀"}', retry_of="job_before", request_id="req_1", rank=0.25, pixel_steps=2**40)
    assert database.write(jobs.submit, Submission(job, '{"prompt":"é"}')) == Admitted(job.id, is_new=True)
    stored = row(database, job.id)
    assert {name: getattr(stored, name) for name in asdict(job)} == asdict(job)
    assert (stored.status, stored.attempt, stored.lost, stored.errors) == ("queued", 0, 0, 0)
    assert (stored.cancel_requested, stored.owner, stored.queued_at) == (0, None, job.created_at)
    assert database.read(lambda connection: jobs.find_input(connection, job.id)) == ('{"prompt":"é"}', None)


def test_a_scheduled_job_is_queued_from_its_run_at_on(database: Database) -> None:
    job = new_job(run_at=new_job().created_at + 500)
    database.write(jobs.submit, Submission(job, "{}"))
    assert row(database, job.id).queued_at == job.run_at


def test_a_large_input_is_a_pointer(database: Database) -> None:
    job = new_job()
    database.write(jobs.submit, Submission(job, None, "inputs/x"))
    assert database.read(lambda connection: jobs.find_input(connection, job.id)) == (None, "inputs/x")
    claimed = claim_one(database)
    assert (claimed.input, claimed.object_key) == (None, "inputs/x")


def test_the_predicted_cost_reaches_whoever_claims(database: Database) -> None:
    submit(database, prefill_tokens=2**31 - 1, max_new_tokens=8)
    claimed = claim_one(database)
    assert (claimed.prefill_tokens, claimed.max_new_tokens) == (2**31 - 1, 8)
    submit(database)
    uncounted = claim_one(database)
    assert (uncounted.prefill_tokens, uncounted.max_new_tokens) == (None, None)


def test_a_group_is_stored_whole(database: Database) -> None:
    group = [Submission(new_job(), f'{{"n":{number}}}') for number in range(50)]
    answers = database.transact(lambda connection: jobs.submit(connection, group))
    assert answers == [Admitted(one.job.id, is_new=True) for one in group]
    found = database.read(lambda connection: jobs.statuses(connection, [one.job.id for one in group]))
    assert found == dict.fromkeys((one.job.id for one in group), "queued")
    assert {job.input for job in claim(database, limit=50)} == {one.input for one in group}


def test_many_jobs_are_found_at_once_each_with_its_input(database: Database) -> None:
    first, large, other, gone = new_job(), new_job(), new_job(caller_id="caller_b"), new_job()
    given = [Submission(first, '{"prompt":"é"}'), Submission(large, None, "inputs/x"), Submission(other, "{}")]
    for submission in (*given, Submission(gone, "{}")):
        database.write(jobs.submit, submission)
    database.transact(lambda connection: jobs.cancel(connection, gone.id))
    database.transact(lambda connection: retention.erase(connection, [gone.id], hide=True))
    asked = [large.id, "job_unknown", first.id, gone.id, other.id]
    found = database.read(lambda connection: jobs.find_all(connection, asked))
    assert found == {one.job.id: (row(database, one.job.id), one.input) for one in given}
    assert database.read(lambda connection: jobs.find_all(connection, [])) == {}


def test_statuses_of_nothing_and_of_unknown_jobs(database: Database) -> None:
    assert database.read(lambda connection: jobs.statuses(connection, [])) == {}
    assert database.read(lambda connection: jobs.statuses(connection, ["job_unknown"])) == {}


def test_the_same_submission_twice_is_one_job(database: Database) -> None:
    """A commit whose answer was lost is sent again."""
    submission = Submission(new_job(), "{}")
    database.write(jobs.submit, submission)
    claimed = claim_one(database)
    assert database.write(jobs.submit, replace(submission, input='{"other":1}')).job_id == submission.job.id
    assert finish(database, claimed)
    assert claim(database) == []
    assert status_of(database, submission.job.id) == "succeeded"


def test_an_idempotency_key_answers_with_the_first_job(database: Database) -> None:
    first, second = new_job(), new_job()
    database.write(jobs.submit, Submission(first, "{}", None, "key", "print"))
    replay = database.write(jobs.submit, Submission(second, "{}", None, "key", "print"))
    assert replay == Admitted(first.id, is_new=False, same_request=True)
    assert find(database, second.id) is None
    assert database.read(lambda connection: jobs.find_input(connection, second.id)) is None


def test_an_idempotency_key_with_another_request_is_a_mismatch(database: Database) -> None:
    first, second = new_job(), new_job()
    database.write(jobs.submit, Submission(first, "{}", None, "key", "print"))
    other = database.write(jobs.submit, Submission(second, "{}", None, "key", "other print"))
    assert other == Admitted(first.id, is_new=False, same_request=False)
    assert find(database, second.id) is None


def test_idempotency_keys_belong_to_callers(database: Database) -> None:
    first, second = new_job(), new_job(caller_id="caller_b")
    database.write(jobs.submit, Submission(first, "{}", None, "key", "print"))
    assert database.write(jobs.submit, Submission(second, "{}", None, "key", "print")).is_new
    assert find(database, second.id) is not None


def test_one_idempotency_key_twice_in_one_group(database: Database) -> None:
    group = [Submission(new_job(), "{}", None, "key", "print") for _ in range(3)]
    answers = database.transact(lambda connection: jobs.submit(connection, group))
    assert [answer.is_new for answer in answers] == [True, False, False]
    assert {answer.job_id for answer in answers} == {group[0].job.id}
    assert len(claim(database, limit=10)) == 1


def test_one_idempotency_key_from_many_threads_is_one_job(database: Database) -> None:
    def send(_: int) -> Admitted:
        return database.write(jobs.submit, Submission(new_job(), "{}", None, "key", "print"))

    def send_alone(_: int) -> Admitted:
        submission = Submission(new_job(), "{}", None, "key", "print")
        return database.transact(lambda connection: jobs.submit(connection, [submission])[0])

    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(send, range(24)), *threads.map(send_alone, range(24))]
    assert sum(answer.is_new for answer in answers) == 1
    assert len({answer.job_id for answer in answers}) == 1
    assert len(claim(database, limit=10)) == 1


def test_a_job_is_found_by_its_caller_only(database: Database) -> None:
    job_id = submit(database)
    assert find(database, job_id, CALLER) == find(database, job_id)
    assert find(database, job_id, "caller_b") is None
    assert find(database, "job_unknown") is None


def test_a_deleted_job_is_not_found(database: Database) -> None:
    job_id = submit(database)
    cancel(database, job_id)
    database.transact(lambda connection: retention.erase(connection, [job_id], hide=True))
    assert find(database, job_id) is None


def test_a_queued_job_is_canceled_at_once(database: Database) -> None:
    job_id = submit(database)
    assert cancel(database, job_id) == Canceled(ended=Ended(job_id, "canceled", 0, QUEUE))
    stored = row(database, job_id)
    assert (stored.status, stored.cancel_requested) == ("canceled", 1)
    assert stored.finished_at is not None
    assert stored.retained_until == pytest.approx(stored.finished_at + 3600, abs=1)
    assert claim(database) == []


def test_a_scheduled_job_is_canceled_at_once(database: Database) -> None:
    job_id = submit(database, run_at=new_job().created_at + 500)
    assert cancel(database, job_id).ended is not None


def test_the_owner_of_a_running_job_is_asked(database: Database) -> None:
    job_id = submit(database)
    claimed = claim_one(database)
    for _ in range(2):
        assert cancel(database, job_id) == Canceled(owner="worker_a", attempt=1)
    stored = row(database, job_id)
    assert (stored.status, stored.cancel_requested, stored.finished_at) == ("running", 1, None)
    assert finish(database, claimed, Status.CANCELED)
    assert status_of(database, job_id) == "canceled"


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_terminal_job_stays_as_it_is(database: Database, status: Status) -> None:
    job_id = submit(database, expires_at=0 if status is Status.EXPIRED else new_job().expires_at)
    if status is Status.EXPIRED:
        database.transact(retention.expire)
    else:
        finish(database, claim_one(database), status)
    before = row(database, job_id)
    assert before.status == status
    assert cancel(database, job_id) == Canceled()
    assert row(database, job_id) == before


def test_an_unknown_job_cannot_be_canceled(database: Database) -> None:
    assert cancel(database, "job_unknown") == Canceled()


def test_half_a_surrogate_pair_is_refused_with_a_sentence(database: Database) -> None:
    job = new_job(metadata='{"a":"\ud800"}')
    good = Submission(new_job(), "{}")
    with pytest.raises(InvalidError, match="cannot be stored; take it out"):
        database.write(jobs.submit, Submission(job, "{}"))
    with pytest.raises(InvalidError, match="cannot be stored"):
        find(database, "job_\udfff")
    assert database.write(jobs.submit, good).is_new


def test_a_nul_is_never_a_fault(database: Database) -> None:
    """Postgres keeps no NUL and SQLite does; both go on working, and neither is called sick."""
    if database.dialect == "postgresql":
        with pytest.raises(InvalidError, match="NUL"):
            find(database, "job_\0")
    else:
        assert find(database, "job_\0") is None


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_a_key_whose_job_nobody_waited_for_makes_another(database: Database, state: str) -> None:
    first, other = new_job(), new_job()
    database.write(jobs.submit, Submission(first, "{}", None, "key", "print"))
    database.write(jobs.submit, Submission(other, "{}", None, "other", "print"))
    if state != "queued":
        [claimed, _] = claim(database, limit=2)
        if state == "succeeded":
            assert finish(database, claimed)
    database.transact(lambda connection: jobs.abandon(connection, first.id, CALLER, "key"))
    again = database.write(jobs.submit, Submission(new_job(), "{}", None, "key", "print"))
    assert again.is_new == (state != "succeeded")  # an answer that is there is the answer
    assert not database.write(jobs.submit, Submission(new_job(), "{}", None, "other", "print")).is_new
    database.transact(lambda connection: jobs.abandon(connection, first.id, CALLER, "key"))
    assert not database.write(jobs.submit, Submission(new_job(), "{}", None, "key", "print")).is_new


def test_a_job_without_a_key_is_abandoned_as_others_are_canceled(database: Database) -> None:
    job_id = submit(database)
    abandoned = database.transact(lambda connection: jobs.abandon(connection, job_id, CALLER, None))
    assert abandoned == Canceled(ended=Ended(job_id, "canceled", 0, QUEUE))
