"""Waiting for a sick backend: it is tried again until it answers, and that is never the job's fault."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from schemas.errors import FaultError, JobTimeoutError
from tasks.logs import get_logger

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

Result = TypeVar("Result")
log = get_logger(__name__)


def insist(action: Callable[[], Result], wait: Callable[[float], object], deadline: float | None = None) -> Result:
    """Do something that may fault until it works, or until the deadline on the monotonic clock has passed.

    `wait` pauses for so many seconds, and raises when it makes no sense to go on.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return action()
        except FaultError as fault:
            if pause == FIRST_PAUSE_SECONDS:
                log.warning("A backend is sick; trying again until it is well.", fault=repr(fault.__cause__ or fault))
            if deadline is not None and time.monotonic() + pause > deadline:
                raise JobTimeoutError from fault
        wait(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
