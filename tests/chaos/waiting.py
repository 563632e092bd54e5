"""Waiting for something that only looking can tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

POLL_SECONDS = 0.05


async def until(is_so: Callable[[], bool], seconds: float) -> bool:
    """Look again and again until it is so or the time is over; say which."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True
