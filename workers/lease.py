"""The lease: a thread of its own tells SQL every third of it that this worker lives, and takes orders in return."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future

from schemas.errors import DatabaseFaultError
from schemas.ids import new_id
from storage import workers
from storage.database import Database
from storage.rows import to_json
from storage.workers import Beat, NewWorker, Pulse
from tasks.attempt import Reason
from tasks.engine import EngineState
from tasks.execution import Execution
from tasks.logs import get_logger
from tasks.routing import Placement
from workers.host import Host
from workers.scratch import clear_scratch

FAULT_PAUSE_SECONDS = 0.2
TELL_SECONDS = 2.0
DEAD_ENGINE_EXIT_CODE = 70

log = get_logger(__name__)


class Lease:
    """A worker's row, from its introduction to its leave."""

    def __init__(
        self, database: Database, host: Host, execution: Execution, place: Placement, *, slots: int, seconds: float
    ) -> None:
        self.on_new_id: Callable[[str], None] = lambda _: None
        self.on_drain_request: Callable[[], None] = lambda: None
        self.is_draining = False
        self._database = database
        self._host = host
        self._execution = execution
        self._place = place
        self._slots = slots
        self._seconds = seconds
        self._id = ""
        self._look = threading.Event()
        self._told = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_over, name="lease", daemon=True)

    def begin(self) -> None:
        """Introduce the worker, so that it is seen while it loads, and keep its lease from now on."""
        self._introduce()
        self._thread.start()

    def look_now(self) -> None:
        """Have the next beat at once: something has changed."""
        self._look.set()

    def tell(self) -> None:
        """Have a beat now and wait for it, but not for a sick database."""
        self._told.clear()
        self._look.set()
        self._told.wait(TELL_SECONDS)

    def leave(self) -> None:
        """Take the row away: nothing is held any more."""
        self._is_over.set()
        self._look.set()
        self._thread.join()
        self._erase_row()

    def _introduce(self) -> None:
        self._id = new_id("worker")
        worker = NewWorker(
            self._id,
            self._place.kind,
            self._place.model,
            self._place.device,
            self._place.queue,
            socket.gethostname(),
            os.getpid(),
            self._state(),
            self._slots,
        )
        self._database.transact(lambda connection: workers.register(connection, worker, self._seconds))
        self._execution.worker_id = self._id
        self.on_new_id(self._id)

    def _state(self) -> str:
        state = self._host.engine.state
        if self.is_draining and state is EngineState.READY:
            return EngineState.DRAINING.value
        return EngineState.LOADING.value if state is EngineState.NEW else state.value

    def _beat_until_over(self) -> None:
        pause = self._seconds / 3
        while not self._is_over.is_set():
            self._look.wait(pause)
            self._look.clear()
            if self._host.engine.state is EngineState.DEAD and not self._is_over.is_set():
                self._die()
            try:
                self._beat()
                self._told.set()
                pause = self._seconds / 3
            except DatabaseFaultError as fault:
                log.warning("The lease could not be extended; trying again.", fault=str(fault))
                pause = min(FAULT_PAUSE_SECONDS, self._seconds / 3)
            except Exception:
                log.exception("A beat failed.")

    def _beat(self) -> None:
        statistics = self._execution.statistics
        stats = statistics.summary() | {
            "sums": statistics.sums(),
            "engine": self._host.engine.stats(),
            "events_dropped": self._execution.events_dropped,
        }
        said = Beat(self._id, self._seconds, self._state(), self._execution.gate.in_flight, to_json(stats))
        pulse: Pulse = self._database.transact(lambda connection: workers.beat(connection, [said])[0])
        if not pulse.alive:
            self._begin_anew()
            return
        if pulse.drain_requested:
            self.on_drain_request()
        self._host.submit(self._execution.compare(pulse.held, pulse.lines)).add_done_callback(_note)

    def _begin_anew(self) -> None:
        """Somebody else has our jobs by now: drop them and go on as another worker."""
        log.warning("This worker was silent for longer than its lease; it drops its jobs and begins anew.")
        self._host.call(self._execution.stop_all, Reason.REPLACED)
        self._introduce()

    def _die(self) -> None:
        """The engine is gone, and nothing in this process can bring it back: end, so that a new one is started."""
        log.error("The engine died, so its worker ends; its jobs go to the next one.")
        self._erase_row()
        clear_scratch()
        os._exit(DEAD_ENGINE_EXIT_CODE)

    def _erase_row(self) -> None:
        try:
            self._database.transact(lambda connection: workers.leave(connection, self._id))
        except DatabaseFaultError:
            log.warning("The worker's row could not be taken away; its lease runs out by itself.")


def _note(compared: Future[None]) -> None:
    """Say why the news of a beat could not be taken; the next beat brings them again."""
    if not compared.cancelled() and (error := compared.exception()):
        log.warning("The news of a beat could not be taken; the next one brings them again.", exc_info=error)
