"""The judge of batches finds each thing that must not be, and the plans are what they say."""

import random
from typing import Any

import pytest

from tests.chaos.batch_checker import PlannedLine, Struck, check_batches
from tests.chaos.batch_client import plan_lines

GOOD, WRONG = [1.0, 2.0], None


def answer(name: str, vector: list[float] | None = GOOD) -> dict[str, Any]:
    body = {"data": [{"embedding": vector}]}
    return {"custom_id": name, "response": {"status_code": 200, "body": body}, "error": None}


def error(name: str, code: str | None = None) -> dict[str, Any]:
    return {"custom_id": name, "response": None, "error": {"code": code} if code else None}


def struck(**changes: Any) -> Struck:
    planned = {"a": PlannedLine({}, GOOD), "b": PlannedLine({}, WRONG), "c": PlannedLine({}, GOOD, attempts=2)}
    view = {"status": "completed", "request_counts": {"total": 3, "completed": 2, "failed": 1}}
    fields: dict[str, Any] = {"view": view, "output": [answer("a"), answer("c")], "errors": [error("b")]}
    return Struck("s", planned, attempts=[1, 1, 2], **{**fields, **changes})


def found(one: Struck) -> set[str]:
    return {name for name, sentences in check_batches([one]).items() if sentences}


def test_a_batch_as_it_must_be_violates_nothing() -> None:
    assert found(struck()) == set()


@pytest.mark.parametrize(
    ("changes", "violated"),
    [
        ({"view": {"status": "expired", "request_counts": {"total": 3, "completed": 2, "failed": 1}}}, "wrong_ends"),
        ({"output": [answer("a")]}, "lost_lines"),
        ({"output": [answer("a"), answer("a"), answer("c")]}, "doubled_lines"),
        ({"errors": [error("b"), error("c")]}, "wrong_errors"),
        ({"errors": [error("b"), error("c", "batch_cancelled")]}, "wrong_errors"),
        ({"output": [answer("a", [9.0]), answer("c")]}, "wrong_answers"),
        ({"output": [answer("c"), answer("a")]}, "disordered_files"),
        ({"output": [], "errors": []}, "wrong_counts"),
    ],
)
def test_what_must_not_be_is_found(changes: dict[str, Any], violated: str) -> None:
    assert violated in found(struck(**changes))


def test_lines_may_run_again_only_when_they_were_in_flight() -> None:
    again = struck()
    again.attempts = [2, 1, 3]
    assert found(again) == {"run_again_too_often"}
    again.in_flight = 2
    assert found(again) == set()


def test_a_canceled_batch_may_say_so_of_good_lines() -> None:
    canceled = struck(end="cancelled", output=[answer("a")], errors=[error("b"), error("c", "batch_cancelled")])
    canceled.view = {"status": "cancelled", "request_counts": {"total": 3, "completed": 1, "failed": 2}}
    assert found(canceled) == set()


def test_a_window_that_closed_may_say_so_of_good_lines() -> None:
    expired = struck(end="expired", output=[answer("a")], errors=[error("b"), error("c", "batch_expired")])
    expired.view = {"status": "expired", "request_counts": {"total": 3, "completed": 1, "failed": 2}}
    assert found(expired) == set()
    expired.errors[1] = error("c", "batch_cancelled")
    assert found(expired) == {"wrong_errors"}


def test_a_deadly_line_says_so_and_kills_three_workers_at_most() -> None:
    planned = plan_lines(random.Random(1), 10, deadly=1)
    name = "line-5"
    assert (planned[name].vector, planned[name].attempts) == (None, 3)
    poison = struck(errors=[error("b"), error(name, "worker_lost")], most_deaths=3, deaths=3)
    poison.planned[name] = planned[name]
    poison.view["request_counts"] = {"total": 4, "completed": 2, "failed": 2}
    assert found(poison) == set()
    poison.deaths = 4
    assert found(poison) == {"too_many_deaths"}
    poison.errors[1] = error(name)
    assert found(poison) == {"too_many_deaths", "wrong_errors"}


def test_a_plan_has_lines_of_every_temper() -> None:
    planned = plan_lines(random.Random(1), 100)
    assert sum(one.vector is None for one in planned.values()) == 6
    assert sum(one.attempts for one in planned.values()) == 100 + 2 - 2
    calm = plan_lines(random.Random(1), 100, stumbles=False)
    assert {one.attempts for one in calm.values()} == {0, 1}
