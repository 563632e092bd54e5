"""What a worker measures of its jobs: percentiles of the last ones for people and estimates, sums for Prometheus.

The sums grow for as long as the worker lives, like any process's counters. They travel on its row.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.base import JsonObject
from schemas.jobs import Kind, Status

JOBS_REMEMBERED = 256
WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
STEPS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5)
DEFAULT_SLA_MS = 2000.0


@dataclass(frozen=True, slots=True)
class Distribution:
    """One of a job's metrics, and the bounds (in seconds) of the buckets in which it is counted."""

    metric: str
    bounds: tuple[float, ...]


DISTRIBUTIONS = (
    Distribution("queue_ms", WAITS),
    Distribution("run_ms", WAITS),
    Distribution("ttft_ms", WAITS),
    Distribution("time_per_output_token_ms", STEPS),
)
COUNTED = ("prompt_tokens", "completion_tokens", "cached_prompt_tokens", "preemptions", "images")
"""What is added up of a job's usage or metrics."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a job that has ended here; `held_ms` is the time from its claim to its end."""

    kind: str
    status: str
    held_ms: float
    metrics: JsonObject
    usage: JsonObject


class Buckets:
    """How many values fell between which bounds, the last bucket without one, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def as_json(self) -> JsonObject:
        """Return them as they travel."""
        return {"counts": list(self._counts), "sum": round(self._sum, 4)}


class Statistics:
    """What the jobs of one worker came to, from any thread."""

    def __init__(self, sla_ttft_ms: float = DEFAULT_SLA_MS) -> None:
        self._sla_ttft_ms = sla_ttft_ms
        self._lock = threading.Lock()
        self._wait_ms: deque[float] = deque(maxlen=JOBS_REMEMBERED)
        self._run_ms: deque[float] = deque(maxlen=JOBS_REMEMBERED)
        self._first_ms: deque[float] = deque(maxlen=JOBS_REMEMBERED)
        self._ended: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()
        self._goodput = Counter(jobs=0, within_sla=0)
        self._buckets = {one.metric: Buckets(one.bounds) for one in DISTRIBUTIONS}

    def add(self, job: Measured) -> None:
        """Remember a job that ended."""
        first_ms = job.metrics.get("ttft_ms")
        with self._lock:
            self._wait_ms.append(job.metrics["queue_ms"])
            self._run_ms.append(job.held_ms)
            if first_ms is not None:
                self._first_ms.append(first_ms)
            self._ended[job.status] += 1
            for name in COUNTED:
                self._counted[name] += job.usage.get(name) or job.metrics.get(name) or 0
            for metric, buckets in self._buckets.items():
                if metric in job.metrics:
                    buckets.add(job.metrics[metric] / 1000)
            if job.kind == Kind.TEXT and not (first_ms is None and job.status == Status.CANCELED):
                self._judge(job.status, first_ms)

    def summary(self) -> JsonObject:
        """Return percentiles of what is remembered."""
        with self._lock:
            waits, runs, firsts = sorted(self._wait_ms), sorted(self._run_ms), sorted(self._first_ms)
            ended = self._ended.total()
        summary = {"ended": ended, "wait_ms": _percentiles(waits, (50, 95, 99)), "run_ms": _percentiles(runs, (50,))}
        return summary | ({"ttft_ms": _percentiles(firsts, (50, 95, 99))} if firsts else {})

    def sums(self) -> JsonObject:
        """Return what only grows."""
        with self._lock:
            return {
                "ended": dict(self._ended),
                "counted": dict(self._counted),
                "goodput": dict(self._goodput),
                "distributions": {metric: buckets.as_json() for metric, buckets in self._buckets.items()},
            }

    def _judge(self, status: str, first_ms: float | None) -> None:
        """Count a job that owed somebody a first token; one that was canceled before it did not."""
        self._goodput["jobs"] += 1
        if status != Status.FAILED and first_ms is not None and first_ms <= self._sla_ttft_ms:
            self._goodput["within_sla"] += 1


def _percentiles(ordered: list[float], which: Iterable[int]) -> dict[str, float]:
    if not ordered:
        return {}
    return {
        f"p{percent}": round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1) for percent in which
    }
