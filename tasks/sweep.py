"""The sweep: erases what was kept as long as promised, and objects that no row knows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from schemas.errors import FaultError
from storage import adapters, batch_upkeep, batches, files, retention
from storage.database import Database
from storage.objects.port import ObjectStore, adapter_key, file_key, job_prefix
from storage.webhooks import deliveries
from tasks.logs import get_logger
from tasks.orphans import Orphans
from tasks.settings import TaskSettings

ALL_JOBS = "jobs/"
ALL_FILES = "files/"
ALL_ADAPTERS = "loras/"
AWAITED_ADAPTERS = "lora-uploads/"
AWAITED_SECONDS = 86_400.0
"""How long an adapter's row waits for the bytes that its caller wants to upload himself."""
ALL_BATCHES = "batches/"
STEP_ROWS = 500
"""What a step of a duty takes at once, so that other writers need not wait for long."""
DUTY_SHARE = 0.25
"""How much of the time between two sweeps a duty may go on that finds ever more."""

log = get_logger(__name__)


class Sweep:
    """The slow duties."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        settings: TaskSettings,
        *,
        erase_events: Callable[[Sequence[str]], None],
    ) -> None:
        self._database = database
        self._objects = objects
        self._settings = settings
        self._erase_events = erase_events
        self._turn = threading.Lock()
        age_seconds = settings.orphan_age_seconds
        self._orphans = (
            Orphans(database, objects, ALL_JOBS, retention.referenced_objects, age_seconds),
            Orphans(database, objects, ALL_FILES, files.with_objects, age_seconds),
            Orphans(database, objects, ALL_ADAPTERS, adapters.with_objects, age_seconds),
            Orphans(database, objects, AWAITED_ADAPTERS, adapters.awaited, age_seconds),
            Orphans(database, objects, ALL_BATCHES, batches.with_objects, age_seconds),
        )

    def run(self) -> str:
        """Do every duty once, for a bounded time."""
        if not self._turn.acquire(blocking=False):
            return "the sweep before this one is not over"
        try:
            return self._do_all()
        finally:
            self._turn.release()

    def erase_retained(self) -> int:
        """Erase the bytes of jobs past their retention: rows first, so that no row ever points to nothing."""
        return self._repeat(self._erase_some)

    def delete_files(self) -> int:
        """Delete files whose time has come: rows first, as above."""
        return self._repeat(self._delete_some_files)

    def delete_adapters(self) -> int:
        """Delete what no job needs of adapters that were deleted, and rows whose bytes never came."""
        gone = self._database.transact(partial(adapters.forget, awaited_seconds=AWAITED_SECONDS))
        self._objects.delete([adapter_key(name) for name in gone])
        return len(gone)

    def delete_orphans(self) -> int:
        """Delete objects that no row knows, once they are old enough."""
        return sum(orphans.delete() for orphans in self._orphans)

    def abort_uploads(self) -> int:
        """Forget uploads whose process died in the middle."""
        begun_before = time.time() - self._settings.orphan_age_seconds
        return sum(self._objects.abort_uploads(prefix, begun_before) for prefix in (ALL_FILES, ALL_ADAPTERS))

    def forget(self) -> int:
        """Delete old idempotency keys, and the rows of jobs, batches and deliveries that ended long ago."""
        return self._repeat(self._forget_some)

    def _do_all(self) -> str:
        done = []
        for duty in (
            self.erase_retained,
            self.delete_files,
            self.delete_adapters,
            self.delete_orphans,
            self.abort_uploads,
            self.forget,
        ):
            try:
                done.append(f"{duty.__name__} {duty()}")
            except FaultError as fault:
                log.warning("A sweep was cut short; the next one goes on.", duty=duty.__name__, fault=str(fault))
        return ", ".join(done)

    def _repeat(self, step: Callable[[], int]) -> int:
        """Take steps until there is nothing left, or it is the next duty's turn; return how much they did."""
        until = time.monotonic() + DUTY_SHARE * self._settings.sweep_seconds
        count = found = step()
        while found and time.monotonic() < until:
            found = step()
            count += found
        return count

    def _erase_some(self) -> int:
        due = self._database.read(lambda connection: retention.past_retention(connection, STEP_ROWS))
        if not due:
            return 0
        erased = self._database.transact(partial(retention.erase, job_ids=[*due], hide=False))
        for job_id in erased:
            if due[job_id]:  # what an attempt left that nobody heard of is an orphan from here on
                self._objects.delete_prefix(job_prefix(job_id))
        self._erase_events(erased)
        return len(erased)

    def _delete_some_files(self) -> int:
        gone = self._database.transact(partial(files.delete_expired, limit=STEP_ROWS))
        self._objects.delete([file_key(file_id) for file_id in gone])
        return len(gone)

    def _forget_some(self) -> int:
        kept = self._settings
        gone = 0
        for forget in (deliveries.forget, batch_upkeep.forget):
            gone += self._database.transact(partial(forget, kept_seconds=kept.rows_kept_seconds, limit=STEP_ROWS))
        return gone + self._database.transact(
            lambda connection: retention.forget(
                connection, kept.rows_kept_seconds, kept.idempotency_kept_seconds, STEP_ROWS
            )
        )
