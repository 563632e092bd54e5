"""A worker's end of the control line: orders that come faster than the beat brings them."""

from __future__ import annotations

import asyncio

from storage.control import Control
from tasks.execution import Execution
from tasks.logs import get_logger
from tasks.orders import read_cancel_order, read_stop_batch_order

log = get_logger(__name__)


class ControlLine:
    """Listens under the worker's current id; lives in the host's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, control: Control, execution: Execution) -> None:
        self._loop = loop
        self._control = control
        self._execution = execution
        self._listening: asyncio.Task[None] | None = None

    def listen(self, worker_id: str) -> None:
        """Listen under this id from now on, and no longer under the one before; from any thread."""
        self._loop.call_soon_threadsafe(self._begin, worker_id)

    async def aclose(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])

    def _begin(self, worker_id: str) -> None:
        if self._listening is not None:
            self._listening.cancel()
        self._listening = self._loop.create_task(self._listen(worker_id))

    async def _listen(self, worker_id: str) -> None:
        async for message in self._control.listen(worker_id):
            order, number = read_cancel_order(message), read_stop_batch_order(message)
            if order is not None:
                self._execution.cancel(*order)
            elif number is not None:
                self._execution.stop_batch(number)
            else:
                log.warning("An order that nobody understands was dropped.")
