"""From a request to a row: limits, loads, ranks."""

from typing import Any

import pytest

from schemas.errors import InvalidError
from schemas.jobs import EmbeddingJob, TextJob
from storage.queues import Depth, QueueRow
from storage.rows import to_json
from storage.workers import WorkerRow
from tasks.dispatch import Origin, check_request, hint_width, measure, new_job, percentiles
from tasks.routing import placements_of
from tests.api import catalog
from tests.refusals import refusal

NOW = 1_700_000_000.0
ECHO = catalog().models["echo"]
ROWS = [
    QueueRow("text.echo.cpu0", "text", "echo", "cpu0", paused=0),
    QueueRow("text.a.cpu1", "text", "a", "cpu1", paused=1),
]


def text(**changes: Any) -> TextJob:
    return TextJob.model_validate({"kind": "text", "model": "echo", "input": {"prompt": "hello"}, **changes})


def worker(**changes: Any) -> WorkerRow:
    stats = to_json(changes.pop("stats", None))
    told: dict[str, Any] = {"state": "ready", "slots": 4, "in_flight": 1, "drain_requested": 0, **changes}
    return WorkerRow(
        id="w",
        model="echo",
        device="cpu0",
        queue="text.echo.cpu0",
        host="h",
        pid=1,
        started_at=NOW,
        beat_at=NOW,
        lease_until=NOW,
        stats=stats,
        **told,
    )


def row_of(**changes: Any) -> Any:
    return new_job(text(**changes), ECHO, placements_of(ECHO)[0], Origin("c"), now=NOW, kept_seconds=500)


def test_a_row_takes_its_limits_from_the_model_where_nothing_is_said() -> None:
    job = row_of()
    assert (job.timeout_seconds, job.retention_seconds, job.expires_at) == (60, 500, NOW + 86_400)
    assert (job.queue, job.revision, job.run_at, job.metadata) == ("text.echo.cpu0", "main", None, None)


def test_what_is_said_wins() -> None:
    job = row_of(policy={"timeout_seconds": 5, "ttl_seconds": 7}, retention_seconds=9, metadata={"a": "ä"})
    assert (job.timeout_seconds, job.retention_seconds, job.expires_at) == (5, 9, NOW + 7)
    assert job.metadata == '{"a":"ä"}'


def test_more_important_is_ranked_first_and_older_before_younger() -> None:
    high, normal, low = (row_of(policy={"priority": name}).rank for name in ("high", "normal", "low"))
    assert high < normal < low
    assert row_of(policy={"run_at": "2023-11-15T00:00:00Z"}).rank > normal


def test_a_moment_that_has_passed_is_now() -> None:
    later, past = (row_of(policy={"run_at": f"{year}-01-01T00:00:00Z", "ttl_seconds": 10}) for year in (2024, 2020))
    assert later.expires_at == later.run_at + 10 == 1_704_067_200 + 10
    assert (past.run_at, past.expires_at) == (None, NOW + 10)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"policy": {"timeout_seconds": 60.5}}, "policy.timeout_seconds"),
        ({"policy": {"run_at": "2025-01-01T00:00:00Z"}}, "policy.run_at"),
        ({"input": {"prompt": "x" * 1601}}, "input.prompt"),
        ({"input": {"messages": [{"role": "user", "content": "x" * 1601}]}}, "input.messages"),
    ],
)
def test_what_a_model_cannot_do_is_refused_by_field(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidError) as caught:
        check_request(text(**changes), ECHO, NOW)
    assert caught.value.param == param


def test_what_may_just_fit_is_left_to_the_engine() -> None:
    request = text(input={"prompt": "x" * 1600}, policy={"timeout_seconds": 60})
    assert refusal(check_request, request, ECHO, NOW) is None


def test_a_request_of_another_kind_is_refused() -> None:
    other = EmbeddingJob.model_validate({"kind": "embedding", "model": "echo", "input": {"texts": "x"}})
    with pytest.raises(InvalidError, match="'kind' must be 'text'"):
        check_request(other, ECHO, NOW)


def test_a_load_counts_workers_that_stay_and_jobs_that_could_run() -> None:
    leaving = worker(state="draining", slots=8), worker(drain_requested=1, slots=16)
    loads = measure(ROWS, [worker(), worker(in_flight=3), *leaving], {"text.echo.cpu0": Depth(5, 1, 7, 4)})
    load = loads["text.echo.cpu0"]
    assert (load.slots, load.in_flight, load.waiting, load.paused) == (8, 4, 6, False)
    assert loads["text.a.cpu1"].paused
    assert not loads["text.a.cpu1"].states


def test_how_long_a_job_takes_is_the_mean_of_what_workers_measured() -> None:
    measured = [
        worker(stats={"run_ms": {"p50": 10.0}}),
        worker(stats={"run_ms": {"p50": 30.0}}),
        worker(stats={"run_ms": {}}),
    ]
    assert measure(ROWS, measured, {})["text.echo.cpu0"].run_ms == 20.0
    assert measure(ROWS, [worker()], {})["text.echo.cpu0"].run_ms is None
    assert percentiles(worker(stats={"wait_ms": {"p99": 4.0}}), "wait_ms") == {"p99": 4.0}


def test_a_queue_is_loading_while_none_of_its_workers_is_ready() -> None:
    states = [["loading"], ["loading", "warming"], ["loading", "ready"], []]
    loads = [measure(ROWS, [worker(state=state) for state in some], {})["text.echo.cpu0"] for some in states]
    assert [load.is_loading for load in loads] == [True, True, False, False]


def test_a_list_of_hints_is_twice_as_wide_as_the_engine() -> None:
    assert hint_width(16) == 32
