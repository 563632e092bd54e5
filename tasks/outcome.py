"""What came of an attempt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class End(StrEnum):
    """How an attempt ended, as its own process knows it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    REQUEUED = "requeued"
    REPLACED = "replaced"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt's end, and why when there is something to say."""

    job_id: str
    end: End
    why: str | None = None

    def __str__(self) -> str:
        """Return a line for people who watch the queues."""
        return f"{self.job_id} {self.end}" + (f": {self.why}" if self.why else "")
