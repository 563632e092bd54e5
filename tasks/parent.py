"""A process that was started by a supervisor ends when the supervisor is gone, however it died."""

from __future__ import annotations

import os
import signal
import threading
import time

from tasks.logs import get_logger

log = get_logger(__name__)


def watch_parent(descriptor: int | None, order: signal.Signals, *, grace_seconds: float) -> None:
    """End this process when the other end of an inherited pipe closes: by a signal to itself, then at once."""
    if descriptor is not None:
        threading.Thread(target=_watch, args=(descriptor, order, grace_seconds), name="parent", daemon=True).start()


def _watch(descriptor: int, order: signal.Signals, grace_seconds: float) -> None:
    while os.read(descriptor, 1):
        pass  # nobody writes; only the end of file counts
    log.warning("The supervisor is gone, so this part stops.")
    if signal.getsignal(order) is not signal.SIG_DFL:  # else it is still starting and has nothing to give back
        os.kill(os.getpid(), order)
        time.sleep(grace_seconds)
    os._exit(1)
