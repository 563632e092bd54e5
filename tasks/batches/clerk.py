"""The clerk: the maintenance process's thread that validates and ends batches, one after the other.

It looks every second and when somebody pokes it; a hint that was lost costs that second. What it cannot do now, for a
store is sick or the process dies, is begun anew by whoever looks next: nothing that a try has written can be seen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from schemas.batches import BatchStatus
from schemas.catalog import Catalog
from schemas.errors import CatalogError, FaultError
from storage import batch_work
from storage.batches import BatchRow
from storage.database import Database
from storage.objects.port import ObjectStore
from tasks.batches.assembly import Assembly
from tasks.batches.hold import Hold, LetGoError
from tasks.batches.validation import Validation
from tasks.logs import get_logger
from tasks.routing import parse_queue
from tasks.settings import TaskSettings

LOOK_SECONDS = 1.0
FAULT_PAUSE_SECONDS = 1.0
FAILURE_PAUSE_SECONDS = 10.0

log = get_logger(__name__)


class Clerk:
    """Does the work on batches that needs no engine."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        settings: TaskSettings,
        *,
        read_catalog: Callable[[], Catalog],
        hint: Callable[[str, int], None],
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._objects = objects
        self._settings = settings
        self._read_catalog = read_catalog
        self._hint = hint
        self._on_end = on_end
        self._stopped = threading.Event()
        self._poked = threading.Event()
        self._thread = threading.Thread(target=self._work_until_stopped, name="clerk", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def poke(self) -> None:
        """Look at once."""
        self._poked.set()

    def stop(self, seconds: float) -> None:
        """Let go of what is under way."""
        self._stopped.set()
        self._poked.set()
        self._thread.join(seconds)

    def work_once(self) -> bool:
        """Do one batch's work; False when there is none or it could not be begun."""
        if not self._database.read(batch_work.is_there_any):
            return False
        seconds = self._settings.lease_seconds
        row = self._database.transact(lambda connection: batch_work.claim(connection, seconds))
        if row is None:
            return False
        pause = self._try(row)
        if pause is not None:
            self._database.transact(lambda connection: batch_work.leave(connection, row, pause or None))
        return pause is None

    def _work_until_stopped(self) -> None:
        while not self._stopped.is_set():
            try:
                while not self._stopped.is_set() and self.work_once():
                    pass
            except FaultError as fault:
                log.warning("Batches cannot be looked at now.", fault=str(fault))
            except Exception:  # the last wall of the thread: it must look again, whatever nobody foresaw
                log.exception("Looking at batches failed.")
            self._poked.wait(LOOK_SECONDS)
            self._poked.clear()

    def _try(self, row: BatchRow) -> float | None:
        """Work on a batch; return after how many seconds it may be tried again, nothing when it is done."""
        hold = Hold(self._database, row, self._settings.lease_seconds, self._stopped)
        try:
            self._work(row, hold)
        except LetGoError:
            return 0
        except (FaultError, CatalogError) as fault:
            log.warning("A batch must wait for a backend.", batch_id=row.id, fault=repr(fault.__cause__ or fault))
            return FAULT_PAUSE_SECONDS
        except Exception:  # a mistake of ours about one batch, which must not keep the others waiting
            log.exception("The work on a batch failed.", batch_id=row.id)
            return FAILURE_PAUSE_SECONDS
        return None

    def _work(self, row: BatchRow, hold: Hold) -> None:
        if row.status != BatchStatus.VALIDATING:
            Assembly(self._database, self._objects, hold).run()
            self._on_end()
            return
        catalog = self._read_catalog()
        queues = Validation(self._database, self._objects, catalog, hold, self._settings.max_batch_lines).run()
        for queue in queues:
            self._hint(queue, catalog.models[parse_queue(queue).model].max_in_flight)
        if not queues:
            self._on_end()
