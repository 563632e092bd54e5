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
        self._began_at = -seconds

    def forget(self) -> None:
        """Have the value read anew by the next who asks: something has just changed it."""
        self._reading = None

    async def get(self) -> Value:
        """Return the value, read again when it has aged."""
        now = time.monotonic()
        if self._reading is None or (self._reading.done() and now - self._began_at > self._seconds):
            self._began_at = now
            self._reading = asyncio.ensure_future(self._read())
        try:
            return await asyncio.shield(self._reading)
        except BaseException:
            if self._reading.done():
                self._reading = None  # a failure is not kept
            raise
