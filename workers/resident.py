"""A worker with an engine: loads it, consumes hints while it lives, leaves nothing behind when it stops."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from schemas.catalog import Catalog, Model
from schemas.errors import StartError
from storage.control import Control
from storage.event_log.streams import RedisEventLog
from storage.hints import AsyncHints
from storage.objects.s3 import open_bucket
from storage.redis import async_client
from tasks.adapters import AdapterSource
from tasks.attempt import Reason, Workplace
from tasks.batches.running import LineExecution, LineRules
from tasks.celery_app import create_app
from tasks.counting import Counting
from tasks.dispatch import HINT_TASK
from tasks.event_writer import EventWriter
from tasks.execution import Execution
from tasks.gate import Gate
from tasks.jobs import CeleryWatcher, RunJobs
from tasks.logs import get_logger
from tasks.routing import (
    BATCH_TASK,
    BATCH_WIDTH,
    MAINTENANCE,
    SEND_TASK,
    SEND_WIDTH,
    WEBHOOKS,
    Placement,
    placements_of,
)
from tasks.settings import TaskSettings
from tasks.weights import Weights
from workers.adapter_disk import AdapterDisk
from workers.consumer import HintWorker
from workers.control_line import ControlLine
from workers.engines import create_engine
from workers.host import Host
from workers.lease import Lease
from workers.settings import WorkerSettings
from workers.shutdown import Shutdown
from workers.stores import Stores

FLUSH_SECONDS = 2.0
MOST_STORING_THREADS = 32
"""So many results are stored at once; a client of the object store holds as many connections."""

ADAPTERS_FOLDER = "adapters"

log = get_logger(__name__)


def find_placement(catalog: Catalog, alias: str, device: str) -> tuple[Model, Placement]:
    """Return what the command line names, or refuse with a sentence that lists what there is."""
    model = catalog.models.get(alias)
    if model is None:
        raise StartError(f"The catalog has no model '{alias}'. Known models: {', '.join(sorted(catalog.models))}.")
    for place in placements_of(model):
        if place.device == device:
            return model, place
    raise StartError(
        f"The catalog does not place '{alias}' on '{device}', only on {', '.join(model.devices)}. "
        f"Add the device to 'devices' in [models.{alias}] or start the worker on one of those."
    )


class Resident:
    """One process for one placement."""

    def __init__(
        self,
        catalog: Catalog,
        placed: tuple[Model, Placement],
        stores: Stores,
        settings: TaskSettings,
        process: WorkerSettings,
    ) -> None:
        model, place = placed
        self._model = model
        self._ready_file = process.ready_file
        self._objects = stores.objects
        self._redis = async_client(stores.settings.redis_url)
        library = partial(_open_library, model, place, stores, process)
        self._host = Host(create_engine(model, place.device, _weights(stores).locate, library))
        self._gate = Gate()
        self._writer = EventWriter(RedisEventLog(self._redis))
        self._hint_line = AsyncHints(self._redis, HINT_TASK)
        self._news_line = AsyncHints(self._redis, SEND_TASK)
        self._batch_line = AsyncHints(self._redis, BATCH_TASK)
        slots = model.max_in_flight
        watcher = CeleryWatcher()
        workplace = Workplace(
            database=stores.database,
            objects=stores.objects,
            engine=self._host.engine,
            writer=self._writer,
            threads=ThreadPoolExecutor(min(slots, MOST_STORING_THREADS), thread_name_prefix="objects"),
            device=place.device,
        )
        siblings = [other.queue for other in placements_of(model) if other != place]
        lines = LineExecution(workplace, self._gate, catalog, LineRules.of(model, place.queue, siblings))
        lines.counting = Counting(Catalog(models={model.alias: model}), _weights(stores))
        lines.finishing.on_over = partial(self._batch_line.send, MAINTENANCE, width=BATCH_WIDTH)
        self._execution = Execution(
            workplace,
            self._gate,
            self._hint_line,
            watcher,
            lines=lines,
            slots=slots,
            sla_ttft_ms=model.sla_ttft_ms,
        )
        self._lease = Lease(
            stores.database, self._host, self._execution, place, slots=slots, seconds=settings.lease_seconds
        )
        self._shutdown = Shutdown(settings.drain_seconds, drain=self._drain, hurry=self._hurry)
        app = create_app(stores.settings, settings, [place.queue])
        app.register_task(RunJobs(self._execution, watcher, self._host.loop, place.queue))
        self._hints = HintWorker(app, name=f"{model.alias}@{place.device}", queues=[place.queue])
        self._hints.on_telling = watcher.tell
        self._control = ControlLine(self._host.loop, Control(self._redis), self._execution)
        self._execution.on_news = partial(self._news_line.send, WEBHOOKS, width=SEND_WIDTH)
        if model.adapters or model.uploaded_rank:
            self._execution.resident = self._host.engine.adapters
        self._execution.on_engine_dead = self._lease.look_now
        self._lease.on_new_id = self._control.listen
        self._lease.on_drain_request = self._shutdown.request

    def run(self) -> None:
        """Load, consume until told to stop, leave."""
        self._shutdown.install()
        self._host.start()
        self._lease.begin()
        loading = self._host.load(self._model.warm_up)
        try:
            if self._shutdown.wait_unless_requested(loading):
                loading.result()
                self._consume()
        finally:
            self._leave()

    def _consume(self) -> None:
        self._host.submit(self._open_gate()).result()
        self._lease.tell()
        if self._ready_file:
            Path(self._ready_file).touch()
        log.info("The worker is ready.", model=self._model.alias)
        if not self._shutdown.requested.is_set():
            self._hints.start()
        if not self._shutdown.requested.is_set():
            log.error("Celery gave up, so the worker ends; whoever keeps it running starts it anew.")
            self._shutdown.request()
        self._shutdown.requested.wait()

    async def _open_gate(self) -> None:
        self._gate.open(self._host.engine.capacity())

    def _drain(self) -> None:
        self._lease.is_draining = True
        self._lease.look_now()
        self._host.call(self._gate.close)
        self._hints.stop_soon()

    def _hurry(self) -> None:
        self._host.call(self._execution.stop_all, Reason.HANDED_BACK)

    def _leave(self) -> None:
        self._host.submit(self._execution.wait()).result()
        self._lease.leave()
        self._host.submit(self._close()).result()
        self._host.close()
        log.info("The worker has stopped.")

    async def _close(self) -> None:
        self._execution.hint()  # for what was handed back, and for the hints that died at the closed gate
        await self._writer.flush(FLUSH_SECONDS)
        await self._hint_line.flush()
        await self._news_line.flush()
        await self._batch_line.flush()
        await self._control.aclose()
        await self._objects.aclose()
        await self._redis.aclose()


def _open_library(
    model: Model, place: Placement, stores: Stores, process: WorkerSettings, listed: AdapterSource
) -> AdapterSource:
    folder = Path(stores.settings.weights_dir) / ADAPTERS_FOLDER / place.queue
    most_bytes = process.adapter_disk_bytes
    return AdapterDisk(model, listed, stores.database, stores.objects, folder, most_bytes=most_bytes)


def _weights(stores: Stores) -> Weights:
    return Weights(partial(open_bucket, stores.settings), Path(stores.settings.weights_dir))
