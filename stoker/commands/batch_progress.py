"""A batch in words: how far it is, how fast it goes, when it will be done."""

from __future__ import annotations

import time
from collections import deque

from stoker.client import Batch
from stoker.commands.words import long_duration

BAR_COLUMNS = 24
LOOKED_BACK_SECONDS = 20.0
"""The rate is that of the last while: lines differ, and workers come and go."""


class Pace:
    """How many lines end in a second, by what was seen."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, ended: int) -> None:
        """Take what is seen now."""
        now = time.monotonic()
        self._seen.append((now, ended))
        while len(self._seen) > 2 and now - self._seen[1][0] >= LOOKED_BACK_SECONDS:  # noqa: PLR2004 - one span is kept
            self._seen.popleft()

    @property
    def per_second(self) -> float | None:
        """Return the rate, when there is one."""
        (began, before), (now, ended) = self._seen[0], self._seen[-1]
        return (ended - before) / (now - began) if now > began and ended > before else None


def progress_of(batch: Batch, pace: Pace) -> str:
    """Return a bar, with rate and the time that is left."""
    ended = batch.completed + batch.failed
    pace.note(ended)
    if not batch.total:
        return f"{batch.status}: its file is being checked" if batch.status == "validating" else batch.status
    fraction = ended / batch.total
    full = int(fraction * BAR_COLUMNS)
    words = [f"{'█' * full}{'░' * (BAR_COLUMNS - full)} {int(fraction * 100)}% {counts_of(batch)}"]
    rate = pace.per_second
    if batch.paused:
        words.append("paused")
    elif batch.status != "in_progress":
        words.append(batch.status)
    elif rate is not None:
        words += [rate_of(rate), f"{long_duration((batch.total - ended) / rate)} left"]
    return ", ".join(words)


def counts_of(batch: Batch) -> str:
    """Say how many lines have ended."""
    failed = f", {batch.failed:,} failed" if batch.failed else ""
    return f"{batch.completed:,} of {batch.total:,} done{failed}"


def rate_of(rate: float) -> str:
    """Return a rate for people."""
    return f"{rate:,.0f} lines/s" if rate >= 10 else f"{rate:.1f} lines/s"  # noqa: PLR2004 - two digits are enough


def summary_of(batch: Batch) -> str:
    """Say how a batch ended, and how long that took."""
    return ", ".join([batch.status, *([counts_of(batch)] if batch.total else []), *end_of(batch)])


def end_of(batch: Batch) -> list[str]:
    """Say how long a batch took that has ended, how fast that was, and what it used."""
    words = []
    ended_at = batch.completed_at or batch.failed_at or batch.cancelled_at or batch.expired_at
    if ended_at is not None and batch.created_at is not None:
        seconds = (ended_at - batch.created_at).total_seconds()
        words.append(f"in {long_duration(seconds)}")
        if batch.status == "completed" and batch.completed and seconds >= 1:
            words.append(rate_of((batch.completed + batch.failed) / seconds))
    tokens = batch.usage["total_tokens"]
    return [*words, *([f"{tokens:,} tokens"] if tokens else [])]
