"""What Flower is shown of an attempt, and how long a worker insists."""

import asyncio

import pytest

from schemas.errors import ObjectStoreFaultError
from tasks.jobs import conclude
from tasks.orders import cancel_order, read_cancel_order
from tasks.outcome import End, Outcome
from tasks.patience import insist


@pytest.mark.parametrize("end", [End.SUCCEEDED, End.CANCELED, End.REPLACED])
def test_an_end_without_blame_is_a_success_that_names_the_job(end: End) -> None:
    assert conclude(Outcome("job_1", end)) == ("task-succeeded", {"result": f"job_1 {end}"})


def test_a_failed_job_is_a_failure_that_names_job_and_reason() -> None:
    event, said = conclude(Outcome("job_1", End.FAILED, "too hot"))
    assert (event, said["exception"]) == ("task-failed", "job_1 failed: too hot")


@pytest.mark.parametrize("end", [End.REQUEUED, End.LOST])
def test_a_job_that_runs_again_is_a_retry(end: End) -> None:
    event, said = conclude(Outcome("job_1", end))
    assert (event, said["exception"]) == ("task-retried", f"job_1 {end}")


def test_orders_are_read_as_they_were_written() -> None:
    assert read_cancel_order(cancel_order("job_1", 3)) == ("job_1", 3)


@pytest.mark.parametrize(
    "garbage", [{}, {"order": "dance"}, {"order": "cancel"}, cancel_order("job_1", 1) | {"attempt": "x"}]
)
def test_other_orders_are_none(garbage: dict[str, object]) -> None:
    assert read_cancel_order(garbage) is None


class Sick:
    """Works after some faults."""

    def __init__(self, faults: int) -> None:
        self.faults = faults
        self.calls = 0

    async def act(self) -> str:
        self.calls += 1
        if self.faults:
            self.faults -= 1
            raise ObjectStoreFaultError
        return "done"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that are written down instead of waited for."""
    noted: list[float] = []

    async def sleep(seconds: float) -> None:
        noted.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return noted


async def test_insisting_waits_longer_each_time_until_it_works(pauses: list[float]) -> None:
    assert await insist(Sick(7).act) == "done"
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


async def test_insisting_ends_when_it_makes_no_sense(pauses: list[float]) -> None:
    def refuse() -> None:
        raise KeyError

    sick = Sick(5)
    with pytest.raises(KeyError):
        await insist(sick.act, refuse)
    assert sick.calls == 1


async def test_other_errors_are_not_waited_for() -> None:
    async def divide() -> int:
        return 1 // 0

    with pytest.raises(ZeroDivisionError):
        await insist(divide)
