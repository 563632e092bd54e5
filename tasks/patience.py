"""Waiting for a sick backend: it is tried again until it answers, and that is never the job's fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from schemas.errors import FaultError
from tasks.logs import get_logger

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

Result = TypeVar("Result")
log = get_logger(__name__)


async def insist(action: Callable[[], Awaitable[Result]], check: Callable[[], None] = lambda: None) -> Result:
    """Do something that may fault until it works; `check` raises when it makes no sense to go on."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return await action()
        except FaultError as fault:
            if pause == FIRST_PAUSE_SECONDS:
                log.warning("A backend is sick; trying again until it is well.", fault=repr(fault.__cause__ or fault))
        check()
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
