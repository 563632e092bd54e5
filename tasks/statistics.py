"""What a worker measures of its last jobs, for people and for estimates."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from schemas.base import JsonObject

JOBS_REMEMBERED = 256


class Statistics:
    """The waits and runs of the last jobs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wait_ms: deque[float] = deque(maxlen=JOBS_REMEMBERED)
        self._run_ms: deque[float] = deque(maxlen=JOBS_REMEMBERED)
        self._ended = 0

    def add(self, wait_ms: float, run_ms: float) -> None:
        """Remember a job that ended."""
        with self._lock:
            self._wait_ms.append(wait_ms)
            self._run_ms.append(run_ms)
            self._ended += 1

    def summary(self) -> JsonObject:
        """Return percentiles of what is remembered."""
        with self._lock:
            waits, runs, ended = sorted(self._wait_ms), sorted(self._run_ms), self._ended
        return {"ended": ended, "wait_ms": _percentiles(waits, (50, 95, 99)), "run_ms": _percentiles(runs, (50,))}


def _percentiles(ordered: list[float], which: Iterable[int]) -> dict[str, float]:
    if not ordered:
        return {}
    return {
        f"p{percent}": round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1) for percent in which
    }
