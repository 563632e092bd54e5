"""The sweep: erases what was kept as long as promised, and objects that no row knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from schemas.errors import FaultError
from storage import retention
from storage.database import Database
from storage.objects.port import ObjectStore, StoredObject, job_prefix
from storage.webhooks import deliveries
from tasks.logs import get_logger
from tasks.settings import TaskSettings

ALL_JOBS = "jobs/"
BATCH_JOBS = 100
BATCHES = 20
PAGE_OBJECTS = 1_000
PAGES = 10
"""One sweep looks at so many pages of objects; the next one goes on where it stopped."""

log = get_logger(__name__)


class Sweep:
    """The slow duties, and how far the search for orphans has come."""

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
        self._looked_at: str | None = None

    def run(self) -> str:
        """Do every duty once, for a bounded time."""
        done = []
        for duty in (self.erase_retained, self.delete_orphans, self.forget):
            try:
                done.append(f"{duty.__name__} {duty()}")
            except FaultError as fault:
                log.warning("A sweep was cut short; the next one goes on.", duty=duty.__name__, fault=str(fault))
        return ", ".join(done)

    def erase_retained(self) -> int:
        """Erase the bytes of jobs past their retention: rows first, so that no row ever points to nothing."""
        count = 0
        for _ in range(BATCHES):
            due = self._database.read(lambda connection: retention.past_retention(connection, BATCH_JOBS))
            if not due:
                break
            erased = self._database.transact(partial(retention.erase, job_ids=due, hide=False))
            for job_id in erased:
                self._objects.delete_prefix(job_prefix(job_id))
            self._erase_events(erased)
            count += len(erased)
        return count

    def delete_orphans(self) -> int:
        """Delete objects under jobs that have no row, or an erased one, once they are old enough."""
        count = 0
        for _ in range(PAGES):
            page = self._objects.list(ALL_JOBS, self._looked_at, PAGE_OBJECTS)
            orphans = self._orphans(page)
            if orphans:
                self._objects.delete(orphans)
                count += len(orphans)
            self._looked_at = page[-1].key if len(page) == PAGE_OBJECTS else None
            if self._looked_at is None:
                break
        return count

    def forget(self) -> int:
        """Delete the rows of jobs erased long ago, old idempotency keys and deliveries that ended long ago."""
        kept = self._settings
        self._database.transact(
            lambda connection: deliveries.forget(connection, kept.rows_kept_seconds, BATCH_JOBS * BATCHES)
        )
        return self._database.transact(
            lambda connection: retention.forget(
                connection, kept.rows_kept_seconds, kept.idempotency_kept_seconds, BATCH_JOBS * BATCHES
            )
        )

    def _orphans(self, page: Sequence[StoredObject]) -> list[str]:
        oldest = time.time() - self._settings.orphan_age_seconds
        old = [one.key for one in page if one.modified_at.timestamp() < oldest]
        owners = {key: key.split("/")[1] for key in old}
        if not owners:
            return []
        ids = sorted(set(owners.values()))
        kept = self._database.read(lambda connection: retention.referenced_objects(connection, ids))
        return [key for key, owner in owners.items() if not kept.get(owner, False)]
