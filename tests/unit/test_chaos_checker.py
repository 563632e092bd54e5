"""The judge of the chaos harness: each kind of violation is caught, and nothing else is."""

from dataclasses import replace

import pytest

from schemas.jobs import Status
from tests.chaos.checker import RULES, check
from tests.chaos.history import Expectation, JobHistory, Look, digest

RIGHT = digest({"text": "right"})
WRONG = digest({"text": "wrong"})
QUEUED = Look(1, 2, Status.QUEUED)
RUNNING = Look(3, 4, Status.RUNNING, attempt=1)
SUCCEEDED = Look(5, 6, Status.SUCCEEDED, attempt=1, output=RIGHT, ending="end")
FAILED = Look(5, 6, Status.FAILED, attempt=1, ending="end", error_code="engine_error")
CANCELED = Look(5, 6, Status.CANCELED, attempt=1, ending="end")


def history(*looks: Look, expected: Expectation | None = None) -> JobHistory:
    return JobHistory("key", expected or Expectation(output=RIGHT), {"job_1"}, list(looks))


def violations(*histories: JobHistory) -> dict[str, int]:
    return {name: len(sentences) for name, sentences in check(histories).items() if sentences}


def test_a_job_that_did_what_it_should_violates_nothing() -> None:
    good = history(QUEUED, RUNNING, SUCCEEDED, replace(SUCCEEDED, asked_at=7, answered_at=8))
    good.results = [RIGHT, RIGHT]
    assert violations(good) == {}


def test_every_rule_is_reported_even_when_it_found_nothing() -> None:
    assert check([]) == {name: [] for name in RULES}


@pytest.mark.parametrize("looks", [(), (QUEUED,), (QUEUED, RUNNING)])
def test_a_job_that_never_ended(looks: tuple[Look, ...]) -> None:
    assert violations(history(*looks)) == {"never_ended": 1}


def test_a_submit_that_nobody_answered() -> None:
    assert violations(JobHistory("key", Expectation())) == {"never_ended": 1}


def test_two_outputs_of_one_job() -> None:
    second = replace(SUCCEEDED, asked_at=7, answered_at=8, output=WRONG)
    assert violations(history(SUCCEEDED, second)) == {"double_results": 1, "wrong_bytes": 1}


def test_two_results_behind_one_link() -> None:
    two = history(SUCCEEDED)
    two.results = [RIGHT, WRONG]
    assert violations(two) == {"double_results": 1}


def test_two_jobs_for_one_key() -> None:
    two = history(SUCCEEDED)
    two.job_ids.add("job_2")
    assert violations(two) == {"double_jobs": 1}


@pytest.mark.parametrize(
    "later",
    [
        replace(RUNNING, asked_at=7, answered_at=8),
        replace(CANCELED, asked_at=7, answered_at=8),
        replace(SUCCEEDED, asked_at=7, answered_at=8, ending="another"),
    ],
)
def test_an_end_that_changed_later(later: Look) -> None:
    expected = Expectation(frozenset({Status.SUCCEEDED, Status.CANCELED}), output=RIGHT)
    assert violations(history(SUCCEEDED, later, expected=expected)) == {"changed": 1}


def test_answers_that_crossed_on_the_way_prove_nothing() -> None:
    crossed = replace(RUNNING, asked_at=4, answered_at=7)
    assert violations(history(QUEUED, SUCCEEDED, crossed)) == {}


def test_an_attempt_that_went_back() -> None:
    first = replace(RUNNING, attempt=2)
    second = replace(RUNNING, asked_at=5, answered_at=6, attempt=1)
    assert violations(history(first, second, replace(SUCCEEDED, asked_at=7, answered_at=8, attempt=3))) == {
        "went_back": 1
    }


def test_a_failure_that_was_not_asked_for() -> None:
    assert violations(history(FAILED)) == {"unexpected_failed": 1}


def test_a_failure_for_another_reason_than_it_was_told() -> None:
    told = Expectation(frozenset({Status.FAILED}), frozenset({"engine_refused"}))
    assert violations(history(FAILED, expected=told)) == {"unexpected_failed": 1}
    assert violations(history(replace(FAILED, error_code="engine_refused"), expected=told)) == {}


@pytest.mark.parametrize("end", [CANCELED, replace(CANCELED, status=Status.EXPIRED)])
def test_an_end_that_nobody_asked_for(end: Look) -> None:
    assert violations(history(end)) == {"unexpected_ends": 1}


def test_a_success_of_a_job_that_was_told_to_fail() -> None:
    told = Expectation(frozenset({Status.FAILED}), frozenset({"engine_error"}), output=RIGHT)
    assert violations(history(SUCCEEDED, expected=told)) == {"unexpected_ends": 1}


def test_wrong_output() -> None:
    assert violations(history(replace(SUCCEEDED, output=WRONG))) == {"wrong_bytes": 1}


def test_wrong_bytes_behind_the_link() -> None:
    wrong = history(SUCCEEDED)
    wrong.wrong_results.append("its result is not what its row says")
    assert violations(wrong) == {"wrong_bytes": 1}


def test_a_refusal_that_had_made_the_job() -> None:
    lying = history(SUCCEEDED)
    lying.refusals, lying.was_replayed = 1, True
    assert violations(lying) == {"lying_refusals": 1}
    lying.lost_replies = 1
    assert violations(lying) == {}, "the job may be the lost reply's"


def test_an_answer_that_no_client_may_get() -> None:
    broken = history(SUCCEEDED)
    broken.server_errors.append("GET was answered with 500")
    assert violations(broken) == {"server_errors": 1}


def test_a_look_reads_a_job_object() -> None:
    job = {
        "status": "succeeded",
        "attempt": 2,
        "output": {"text": "right"},
        "error": None,
        "finished_at": "2026-11-21T00:00:00Z",
        "artifacts": [{"sha256": "ab", "url": "https://one.example/?signature=1"}],
    }
    look = Look.at(job, 1, 2)
    assert (look.status, look.attempt, look.output, look.is_terminal) == (Status.SUCCEEDED, 2, RIGHT, True)
    other_link = {**job, "artifacts": [{"sha256": "ab", "url": "https://one.example/?signature=2"}]}
    assert Look.at(other_link, 1, 2).ending == look.ending
    assert Look.at({**job, "artifacts": [{"sha256": "cd"}]}, 1, 2).ending != look.ending
    assert Look.at({**job, "finished_at": "2026-11-21T00:00:01Z"}, 1, 2).ending != look.ending
