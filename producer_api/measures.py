"""What GET /metrics tells: this process's requests, the queues as they are, and what workers count of their jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from producer_api.workers import SUMS, stats_of
from schemas.base import JsonObject
from storage.workers import WorkerRow
from tasks.statistics import COUNTED, DISTRIBUTIONS, Distribution

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
OF_WORKER = ("model", "device", "worker")
HISTOGRAMS = {
    "queue_ms": ("stoker_job_queue_seconds", "How long jobs waited before a worker claimed them."),
    "run_ms": ("stoker_job_run_seconds", "How long the engine was at work on a job."),
    "ttft_ms": ("stoker_job_ttft_seconds", "From the submit of a job to its first token."),
    "time_per_output_token_ms": ("stoker_job_time_per_output_token_seconds", "Between the tokens of a job."),
}

disable_created_metrics()  # type: ignore[no-untyped-call]  # they double every series


class Measures:
    """Counters of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "stoker_http_requests", "Answered requests.", ("method", "route", "status"), registry=self.registry
        )
        self._overhead = Histogram(
            "stoker_http_overhead_seconds",
            "Time that the API itself took, without waiting for jobs.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._children: dict[tuple[str, str, int | None], tuple[Counter, Histogram]] = {}

    def count(self, method: str, route: str, status: int | None, overhead_seconds: float) -> None:
        """Count one request."""
        children = self._children.get((method, route, status))
        if children is None:  # finding a child by its labels costs more than counting
            children = self._requests.labels(method, route, status), self._overhead.labels(method, route)
            self._children[method, route, status] = children
        children[0].inc()
        children[1].observe(overhead_seconds)


class JobMeasures(Collector):
    """What living workers have counted of their jobs; each worker's counters are series of their own.

    So they do what counters of processes do: they grow, and end with their process.
    """

    def __init__(self, living: Sequence[WorkerRow]) -> None:
        told = [((row.model, row.device, row.id), stats_of(row).get(SUMS)) for row in living]
        self._sums = [(labels, sums) for labels, sums in told if sums]

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """Yield every family."""
        yield self._ended()
        for name in COUNTED:
            yield self._counter(
                f"stoker_{name}", f"Counted over ended jobs: {name.replace('_', ' ')}.", "counted", name
            )
        yield self._counter("stoker_sla_jobs", "Ended jobs that owed their caller a first token.", "goodput", "jobs")
        yield self._counter(
            "stoker_sla_jobs_within", "Those whose first token came within the model's SLA.", "goodput", "within_sla"
        )
        for distribution in DISTRIBUTIONS:
            yield self._histogram(distribution)

    def _ended(self) -> CounterMetricFamily:
        family = CounterMetricFamily("stoker_jobs_ended", "Jobs that ended.", labels=(*OF_WORKER, "status"))
        for labels, sums in self._sums:
            for status, count in sums["ended"].items():
                family.add_metric((*labels, status), count)
        return family

    def _counter(self, name: str, meaning: str, part: str, key: str) -> CounterMetricFamily:
        family = CounterMetricFamily(name, meaning, labels=OF_WORKER)
        for labels, sums in self._sums:
            if key in sums[part]:
                family.add_metric(labels, sums[part][key])
        return family

    def _histogram(self, distribution: Distribution) -> HistogramMetricFamily:
        name, meaning = HISTOGRAMS[distribution.metric]
        family = HistogramMetricFamily(name, meaning, labels=OF_WORKER)
        bounds = [*map(floatToGoString, distribution.bounds), "+Inf"]
        for labels, sums in self._sums:
            counted = sums["distributions"].get(distribution.metric, {"counts": []})
            if any(counted["counts"]) and len(counted["counts"]) == len(bounds):  # another release has other bounds
                buckets = list(zip(bounds, accumulate(counted["counts"]), strict=True))
                family.add_metric(labels, buckets, sum_value=counted["sum"])
        return family


def render(measures: Measures, queues: Sequence[JsonObject], living: Sequence[WorkerRow], hints_dropped: int) -> bytes:
    """Return everything in Prometheus's text form."""
    now = CollectorRegistry()
    jobs = Gauge("stoker_queue_jobs", "Jobs in a queue.", ("queue", "state"), registry=now)
    hints = Gauge("stoker_queue_hints", "Hints on a queue's list.", ("queue",), registry=now)
    paused = Gauge("stoker_queue_paused", "1 while nothing is taken from a queue.", ("queue",), registry=now)
    waits = Gauge("stoker_queue_wait_ms", "How long the last jobs waited.", ("queue", "percentile"), registry=now)
    slots = Gauge("stoker_queue_slots", "Jobs that a queue's workers can run at once.", ("queue",), registry=now)
    dropped = Gauge("stoker_hints_dropped", "Hints that this process could not send.", registry=now)
    dropped.set(hints_dropped)
    now.register(JobMeasures(living))
    for queue in queues:
        name, depth = queue["name"], dict(queue["depth"])
        if (waiting := depth.pop("hints")) is not None:
            hints.labels(name).set(waiting)
        for state, count in depth.items():
            jobs.labels(name, state).set(count)
        for percentile, milliseconds in queue["wait_ms"].items():
            waits.labels(name, percentile).set(milliseconds)
        paused.labels(name).set(queue["paused"])
        slots.labels(name).set(sum(worker["slots"] for worker in queue["workers"]))
    return generate_latest(measures.registry) + generate_latest(now)
