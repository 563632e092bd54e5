"""Who waits at this process's doors for the jobs that were made there."""

from __future__ import annotations

from collections import Counter

from producer_api.admission import Accepted


class Seats:
    """All who wait: a repeated request may wait for the job that the first one made."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def take(self, accepted: Accepted) -> Seat:
        """Wait for a job."""
        return Seat(self._taken, accepted)


class Seat:
    """One who waits."""

    def __init__(self, taken: Counter[str], accepted: Accepted) -> None:
        self._taken = taken
        self._job_id = accepted.job_id
        # A job that was made through another door, or in another process, does not depend on who waits here.
        self._counts = accepted.job is not None or accepted.job_id in taken
        if self._counts:
            taken[self._job_id] += 1

    def leave(self) -> bool:
        """Wait no longer; return whether nobody waits any more for a job that was made here."""
        if not self._counts:
            return False
        self._counts = False
        self._taken[self._job_id] -= 1
        if self._taken[self._job_id]:
            return False
        del self._taken[self._job_id]
        return True
