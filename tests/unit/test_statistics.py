"""What a worker measures of the jobs that ended there."""

import math

from hypothesis import given
from hypothesis import strategies as st

from schemas.base import JsonObject
from tasks.statistics import JOBS_REMEMBERED, WAITS, Buckets, Measured, Statistics

SLA_MS = 100.0


def ended(
    status: str = "succeeded",
    kind: str = "text",
    held_ms: float = 5.0,
    usage: JsonObject | None = None,
    **metrics: float,
) -> Measured:
    """A job that ended."""
    return Measured(kind, status, held_ms, {"queue_ms": 1.0, **metrics}, usage or {})


def after(*jobs: Measured) -> Statistics:
    """The statistics of a worker where these jobs ended."""
    statistics = Statistics(SLA_MS)
    for job in jobs:
        statistics.add(job)
    return statistics


def test_percentiles_are_of_the_last_jobs() -> None:
    assert after().summary() == {"ended": 0, "wait_ms": {}, "run_ms": {}}
    count = JOBS_REMEMBERED + 100
    summary = after(*(ended(held_ms=2.0 * n, queue_ms=float(n), ttft_ms=3.0 * n) for n in range(count))).summary()
    assert summary == {
        "ended": count,
        "wait_ms": {"p50": 228, "p95": 343, "p99": 353},
        "run_ms": {"p50": 456},
        "ttft_ms": {"p50": 684, "p95": 1029, "p99": 1059},
    }


def test_ends_and_tokens_are_added_up() -> None:
    said = {"prompt_tokens": 7, "completion_tokens": 3, "cached_prompt_tokens": 4, "images": 2}
    sums = after(
        ended(usage=said, preemptions=2, cached_prompt_tokens=4),
        ended("canceled", usage={"prompt_tokens": 1, "completion_tokens": 0}),
        ended("failed"),
    ).sums()
    assert sums["ended"] == {"succeeded": 1, "canceled": 1, "failed": 1}
    assert sums["counted"] == {
        "prompt_tokens": 8,
        "completion_tokens": 3,
        "cached_prompt_tokens": 4,
        "preemptions": 2,
        "images": 2,
    }


def test_a_metric_that_a_job_has_not_is_not_counted() -> None:
    distributions = after(ended(), ended(run_ms=20.0, ttft_ms=30.0)).sums()["distributions"]
    counts = {metric: sum(told["counts"]) for metric, told in distributions.items()}
    assert counts == {"queue_ms": 2, "run_ms": 1, "ttft_ms": 1, "time_per_output_token_ms": 0}
    assert distributions["run_ms"]["sum"] == 0.02


def test_goodput_counts_who_had_the_first_token_in_time() -> None:
    def goodput(*jobs: Measured) -> tuple[int, int]:
        told = after(*jobs).sums()["goodput"]
        return told["jobs"], told["within_sla"]

    assert goodput() == (0, 0)
    assert goodput(ended(ttft_ms=SLA_MS), ended(ttft_ms=SLA_MS + 1)) == (2, 1)
    assert goodput(ended("canceled", ttft_ms=5.0)) == (1, 1)
    assert goodput(ended("canceled")) == (0, 0)  # it gave up before anybody was late
    assert goodput(ended("failed", ttft_ms=5.0), ended("failed")) == (2, 0)
    assert goodput(ended(kind="embedding"), ended(kind="image")) == (0, 0)


@given(st.lists(st.floats(0, 1e5)))
def test_each_value_is_in_the_first_bucket_that_holds_it(values: list[float]) -> None:
    buckets = Buckets(WAITS)
    for value in values:
        buckets.add(value)
    counts = buckets.as_json()["counts"]
    for bound, total in zip((*WAITS, math.inf), [sum(counts[: n + 1]) for n in range(len(counts))], strict=True):
        assert total == sum(value <= bound for value in values)
