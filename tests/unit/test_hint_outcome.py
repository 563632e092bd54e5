"""What Flower is shown of an attempt, and how long a worker insists."""

import asyncio
from dataclasses import dataclass, fields
from typing import Any

import pytest
from celery.events.state import State

from schemas.base import JsonObject
from schemas.errors import ObjectStoreFaultError
from storage.rows import ClaimedJob
from tasks.dispatch import HINT_TASK
from tasks.jobs import CeleryWatcher, conclude
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


class Sender:
    """Celery's dispatcher of events, as far as it is asked."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, JsonObject]] = []

    def send(self, event: str, **said: object) -> None:
        self.sent.append((event, said))


@dataclass
class Consumer:
    """Celery's consumer, as far as it is asked."""

    event_dispatcher: Sender | None


def claimed(job_id: str) -> ClaimedJob:
    text = {"kind": "text", "model": "echo", "queue": "text.echo.cpu0", "caller_id": "caller_1"}
    numbers = dict.fromkeys(("lost", "errors", "timeout_seconds", "retention_seconds", "rank", "queued_at"), 0)
    nothing = dict.fromkeys((field.name for field in fields(ClaimedJob)), None)
    values: dict[str, Any] = {**nothing, **text, **numbers, "id": job_id, "attempt": 1, "started_at": 1.0}
    return ClaimedJob(**values)


def test_what_began_and_ended_since_the_last_time_is_told_in_one_event() -> None:
    watcher, sender = CeleryWatcher(), Sender()
    watcher.consumer = Consumer(sender)
    long, short = claimed("job_long"), claimed("job_short")
    watcher.begin(long)
    watcher.begin(short)
    watcher.end(short, Outcome("job_short", End.SUCCEEDED), 0.5)
    watcher.tell()
    watcher.end(long, Outcome("job_long", End.FAILED, "too hot"), 2.0)
    watcher.tell()
    watcher.tell()
    assert [(event, said["uuid"]) for event, said in sender.sent] == [
        ("task-received", "job_long-1"),
        ("task-started", "job_long-1"),
        ("task-succeeded", "job_short-1"),
        ("task-failed", "job_long-1"),
    ]
    assert [said.get("runtime") for _, said in sender.sent] == [None, None, 0.5, 2.0]
    assert all(said["name"] == HINT_TASK and "text.echo.cpu0" in said["args"] for _, said in sender.sent)


def test_what_is_told_in_one_event_still_has_its_times() -> None:
    watcher, sender = CeleryWatcher(), Sender()
    watcher.consumer = Consumer(sender)
    watcher.begin(claimed("job_short"))
    watcher.end(claimed("job_short"), Outcome("job_short", End.SUCCEEDED), 0.5)
    watcher.tell()
    [(event, said)] = sender.sent
    watched = State()  # what Flower keeps
    watched.event({"type": event, "hostname": "echo@cpu0", "local_received": 2.0, "clock": 1, **said})
    task = watched.tasks["job_short-1"]
    assert (task.received, task.started, task.state) == (1.0, 1.0, "SUCCESS")  # Flower sorts by the first


@pytest.mark.parametrize("consumer", [None, Consumer(None)], ids=["before the first connection", "after a lost one"])
def test_what_nobody_could_be_told_is_forgotten(consumer: Consumer | None) -> None:
    watcher, sender = CeleryWatcher(), Sender()
    watcher.consumer = consumer
    watcher.begin(claimed("job_1"))
    watcher.tell()
    watcher.consumer = Consumer(sender)
    watcher.tell()
    assert sender.sent == []


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
