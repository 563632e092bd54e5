"""Values that are read seldom and asked for often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Fresh(Generic[Value]):
    """A value that is at most `seconds` old when somebody gets it; those who ask together share one reading."""

    def __init__(self, read: Callable[[], Awaitable[Value]], seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._reading: asyncio.Future[Value] | None = None
        self._began_at = 0.0

    def forget(self) -> None:
        """Have the value read anew by the next who asks: something has just changed it."""
        self._reading = None

    async def get(self) -> Value:
        """Return the value, read again when it has aged or could not be read."""
        now, reading = time.monotonic(), self._reading
        if reading is None or (reading.done() and (now - self._began_at > self._seconds or _failed(reading))):
            self._began_at = now
            reading = self._reading = asyncio.ensure_future(self._read())
            reading.add_done_callback(_failed)  # looks at a failure that everybody has stopped waiting for
        return reading.result() if reading.done() else await asyncio.shield(reading)


def _failed(reading: asyncio.Future[Value]) -> bool:
    return reading.cancelled() or reading.exception() is not None
