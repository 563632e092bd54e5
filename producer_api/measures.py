"""What the process counts about its requests, for GET /metrics."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from schemas.base import JsonObject

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


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


def render(measures: Measures, queues: Sequence[JsonObject], hints_dropped: int) -> bytes:
    """Return everything in Prometheus's text form: this process's counters, and the queues as they are now."""
    now = CollectorRegistry()
    jobs = Gauge("stoker_queue_jobs", "Jobs in a queue.", ("queue", "state"), registry=now)
    hints = Gauge("stoker_queue_hints", "Hints on a queue's list.", ("queue",), registry=now)
    paused = Gauge("stoker_queue_paused", "1 while nothing is taken from a queue.", ("queue",), registry=now)
    waits = Gauge("stoker_queue_wait_ms", "How long the last jobs waited.", ("queue", "percentile"), registry=now)
    slots = Gauge("stoker_queue_slots", "Jobs that a queue's workers can run at once.", ("queue",), registry=now)
    dropped = Gauge("stoker_hints_dropped", "Hints that this process could not send.", registry=now)
    dropped.set(hints_dropped)
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
