"""The hold on the work on one batch: kept while it is done, lost when somebody else has it by now."""

from __future__ import annotations

import threading
import time

from storage import batch_work
from storage.batches import BatchRow
from storage.database import Database


class LetGoError(Exception):
    """The work is somebody else's by now, or this process stops: whatever it still wants to write is void."""


class Hold:
    """The lease on a batch's work, and its fence."""

    def __init__(self, database: Database, row: BatchRow, lease_seconds: float, stopped: threading.Event) -> None:
        self.row = row
        self._database = database
        self._lease_seconds = lease_seconds
        self._stopped = stopped
        self._kept_at = time.monotonic()

    def keep(self) -> None:
        """Say that the work goes on; to be called between its steps."""
        if self._stopped.is_set():
            raise LetGoError
        if time.monotonic() - self._kept_at > self._lease_seconds / 3:
            self._kept_at = time.monotonic()
            self.check(self._database.transact(lambda c: batch_work.keep(c, self.row, self._lease_seconds)))

    def check(self, is_ours: bool) -> None:  # noqa: FBT001 - the answer of a fenced statement
        """Let go when a fenced statement met nothing."""
        if not is_ours:
            raise LetGoError
