"""Whether and when a failed attempt is tried again: a pure decision."""

from __future__ import annotations

from schemas.errors import EngineError, JobError, StokerError

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0


def as_job_error(error: BaseException) -> StokerError:
    """Return what the caller may know of an exception that ended an attempt."""
    if isinstance(error, JobError):
        return error
    return EngineError()


def delay_before_next(error: StokerError, errors_so_far: int, max_attempts: int) -> float | None:
    """Return the seconds until the next attempt, or None when this one was the last.

    `errors_so_far` counts the retryable engine errors before this one.
    """
    if not error.retryable or errors_so_far + 1 >= max_attempts:
        return None
    return float(min(FIRST_DELAY_SECONDS * 2**errors_so_far, LONGEST_DELAY_SECONDS))
