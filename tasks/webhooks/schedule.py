"""What an answer means and when the next attempt comes: pure decisions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from schemas.errors import StartError

BUSY = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""Answers whose Retry-After is honoured."""
LONGEST_SECONDS = 36_000.0
JITTER = 0.2


def read_delays(text: str) -> tuple[float, ...]:
    """Read the seconds before each attempt: `0,5,300`."""
    try:
        delays = tuple(float(one) for one in text.split(","))
    except ValueError:
        delays = ()
    if not delays or min(delays) < 0:
        raise StartError("STOKER_WEBHOOK_DELAYS takes the seconds before each attempt, such as 0,5,300.")
    return delays


def next_delay(
    delays: Sequence[float], tries: int, asked_seconds: float | None = None, *, chance: float = 0.5
) -> float | None:
    """Return the seconds until the attempt after `tries` of them, or None when there is none.

    `chance` between 0 and 1 spreads those who failed together; what the receiver asked for is never undercut.
    """
    if tries >= len(delays):
        return None
    spread = delays[tries] * (1 - JITTER + 2 * JITTER * chance)
    return max(spread, min(asked_seconds or 0.0, LONGEST_SECONDS))


def asked_delay(status: int | None, retry_after: str | None) -> float | None:
    """Return how many seconds a busy receiver wants to be left alone."""
    if status not in BUSY or not retry_after:
        return None
    if retry_after.isascii() and retry_after.isdecimal():
        return min(float(retry_after), LONGEST_SECONDS)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
