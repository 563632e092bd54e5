"""A job's view: what the row tells, where it waits and for how long."""

import time
from dataclasses import replace
from typing import Any

import pytest

from producer_api.views import entity_tag, fresh_row, queue_place, starts_in
from schemas.jobs import Job, QueueReason
from storage.jobs import NewJob
from storage.rows import JobRow
from tasks.dispatch import QueueLoad
from tasks.views import deadline, metrics, moment, plain

NOW = 1_700_000_000.0
BUSY = QueueLoad(slots=4, in_flight=4, run_ms=2000.0, states=frozenset({"ready"}))


def row(**changes: Any) -> JobRow:
    job = NewJob(
        id="job_x",
        caller_id="caller_x",
        kind="text",
        model="echo",
        revision="main",
        queue="text.echo.cpu0",
        rank=NOW,
        priority="normal",
        max_attempts=3,
        run_at=None,
        expires_at=NOW + 100,
        timeout_seconds=60,
        retention_seconds=50,
        created_at=NOW,
        metadata=None,
        retry_of=None,
        request_id=None,
    )
    return replace(fresh_row(job), **changes)


def test_times_are_rfc_3339_in_utc() -> None:
    assert moment(NOW) == "2023-11-14T22:13:20.000Z"
    assert moment(NOW + 0.0625) == "2023-11-14T22:13:20.062Z"
    assert moment(None) is None


def test_a_fresh_row_has_the_shape_that_was_promised() -> None:
    view = plain(row(), "https://stoker.example")
    Job.model_validate(view)
    assert view["urls"]["events"] == "https://stoker.example/v1/jobs/job_x/events"
    assert view["deadline_at"] == moment(NOW + 100)


@pytest.mark.parametrize(
    ("changes", "ends_at"),
    [
        ({}, NOW + 100),
        ({"status": "running", "started_at": NOW + 5}, NOW + 65),
        ({"status": "succeeded", "started_at": NOW + 5}, None),
        ({"status": "expired"}, None),
    ],
)
def test_a_deadline_is_the_ttl_then_the_timeout_then_nothing(changes: dict[str, Any], ends_at: float | None) -> None:
    assert deadline(row(**changes)) == ends_at


def test_metrics_are_measured_by_the_worker_and_completed_from_the_row() -> None:
    assert metrics(row()) == {}
    assert metrics(row(started_at=NOW + 0.5)) == {"queue_ms": 500.0}
    ended = row(started_at=NOW + 0.5, finished_at=NOW + 2, metrics='{"run_ms":1400.0,"ttft_ms":3.0}')
    assert metrics(ended) == {"queue_ms": 500.0, "run_ms": 1400.0, "ttft_ms": 3.0}


@pytest.mark.parametrize(
    ("load", "changes", "reason"),
    [
        (QueueLoad(), {}, "no_worker"),
        (QueueLoad(paused=True), {}, "paused"),
        (QueueLoad(states=frozenset({"loading", "warming"})), {}, "loading"),
        (QueueLoad(states=frozenset({"loading", "ready"}), slots=1), {}, "capacity"),
        (BUSY, {}, "capacity"),
        (replace(BUSY, paused=True), {"run_at": NOW + 10}, "scheduled"),
    ],
)
def test_the_reason_is_what_would_have_to_change_first(load: QueueLoad, changes: dict[str, Any], reason: str) -> None:
    assert queue_place(row(**changes), load, 0)["reason"] == reason


@pytest.mark.parametrize(
    ("ahead", "position", "is_minimum"), [(0, 1, False), (999, 1000, False), (1000, 1000, True), (None, None, False)]
)
def test_a_position_is_exact_to_a_thousand(ahead: int | None, position: int | None, *, is_minimum: bool) -> None:
    place = queue_place(row(), BUSY, ahead)
    assert (place["position"], place["position_is_minimum"]) == (position, is_minimum)


@pytest.mark.parametrize(
    ("load", "ahead", "seconds"),
    [
        (replace(BUSY, in_flight=3), 0, 0.0),  # a slot is free
        (BUSY, 0, 0.5),  # the next of four slots that are free every two seconds
        (BUSY, 3, 2.0),
        (BUSY, 7, 4.0),
        (replace(BUSY, run_ms=None), 7, None),
        (QueueLoad(), 0, None),
    ],
)
def test_a_wait_is_estimated_from_those_ahead_and_how_long_one_takes(
    load: QueueLoad, ahead: int, seconds: float | None
) -> None:
    assert starts_in(load, ahead, QueueReason.CAPACITY) == seconds


def test_a_scheduled_job_starts_at_its_moment() -> None:
    place = queue_place(row(run_at=time.time() + 30), BUSY, None)
    assert place["eta_seconds"] == pytest.approx(30, abs=5)


def test_a_tag_changes_with_the_job_and_not_with_the_signature_of_its_links() -> None:
    view = plain(row(), "")
    tag = entity_tag(view, 1 << 40)
    assert entity_tag(plain(row(), ""), 1 << 40) == tag
    assert entity_tag(plain(row(cancel_requested=1), ""), 1 << 40) != tag
    signed = [{**view, "artifacts": [{"name": "a", "url": f"https://s3/a?signature={n}"}]} for n in range(2)]
    assert entity_tag(signed[0], 1 << 40) == entity_tag(signed[1], 1 << 40) != tag
