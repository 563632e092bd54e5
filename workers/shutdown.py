"""How a worker stops: politely on SIGTERM and SIGINT, at once on SIGQUIT or when it is asked a second time.

A signal handler may interrupt anything, so it only writes a byte into a pipe; a thread that waits there does the rest.
Celery's own ways do not fit a pool of threads: its soft shutdown wants to end threads, which nobody can.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType

from tasks.logs import get_logger

DRAIN, HURRY = b"d", b"h"
GRACE_SECONDS = 10.0
"""How long a worker may take to store and give back what it was told to drop."""
STUCK_EXIT_CODE = 70

log = get_logger(__name__)


class Shutdown:
    """Takes orders to stop. `drain` is called at the first, `hurry` when time is up or somebody insists."""

    def __init__(self, drain_seconds: float, *, drain: Callable[[], None], hurry: Callable[[], None]) -> None:
        self.requested = threading.Event()
        self._drain_seconds = drain_seconds
        self._drain = drain
        self._hurry = hurry
        self._orders, self._order = os.pipe()
        self._changed = threading.Event()

    def install(self) -> None:
        """Listen to signals from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_polite_signal)
        signal.signal(signal.SIGQUIT, self._on_rude_signal)
        threading.Thread(target=self._obey, name="shutdown", daemon=True).start()

    def request(self) -> None:
        """Ask for a drain, from any thread."""
        os.write(self._order, DRAIN)

    def wait_unless_requested(self, future: Future[None]) -> bool:
        """Wait for something that takes long; False when the order to stop came first."""
        future.add_done_callback(lambda _: self._changed.set())
        self._changed.wait()
        return future.done()

    def _on_polite_signal(self, _number: int, _frame: FrameType | None) -> None:
        os.write(self._order, DRAIN)

    def _on_rude_signal(self, _number: int, _frame: FrameType | None) -> None:
        os.write(self._order, HURRY)

    def _obey(self) -> None:
        order = os.read(self._orders, 1)
        self.requested.set()
        self._changed.set()
        log.info("Stopping.", drain_seconds=self._drain_seconds if order == DRAIN else 0)
        self._drain()
        if order == DRAIN:
            select.select([self._orders], [], [], self._drain_seconds)  # until somebody insists
        self._hurry()
        time.sleep(GRACE_SECONDS)
        log.error("The worker did not stop in time, so it ends here; the reconciler takes care of its jobs.")
        os._exit(STUCK_EXIT_CODE)
