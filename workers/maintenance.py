"""The worker without an engine: it runs the reconciler and the sweep, and sends webhooks."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from storage.bell import Ringer
from storage.catalog import CatalogFile
from storage.epoch import Epoch
from storage.event_log.streams import erase_events
from storage.hints import Hints
from storage.redis import sync_client
from tasks.batches.clerk import Clerk
from tasks.celery_app import SWEEP_TASK, TICK_TASK, create_app
from tasks.dispatch import HINT_TASK, hint_width
from tasks.logs import get_logger
from tasks.maintenance import Call
from tasks.reconcile import Reconciler
from tasks.routing import BATCH_TASK, MAINTENANCE, SEND_TASK, WEBHOOKS
from tasks.settings import TaskSettings
from tasks.sweep import Sweep
from tasks.webhooks.sender import Sender
from workers.consumer import HintWorker
from workers.shutdown import Shutdown
from workers.stores import Stores

THREADS = 4

log = get_logger(__name__)


class Maintenance:
    """One process for the queues `maintenance` and `webhooks`."""

    def __init__(self, stores: Stores, settings: TaskSettings, ready_file: str | None) -> None:
        self._ready_file = ready_file
        redis = sync_client(stores.settings.redis_url)
        hints, catalog = Hints(redis, HINT_TASK), CatalogFile(stores.settings.catalog)
        reconciler = Reconciler(
            stores.database,
            hints,
            ring=Ringer(redis).ring,
            has_redis_forgotten=Epoch(redis).check,
            read_catalog=catalog.read,
        )
        app = create_app(stores.settings, settings)
        sweep = Sweep(stores.database, stores.objects, settings, erase_events=partial(erase_events, redis))
        self._sender = Sender(stores.database, stores.objects, settings)
        self._clerk = Clerk(
            stores.database,
            stores.objects,
            settings,
            read_catalog=catalog.read,
            hint=lambda queue, slots: hints.send(queue, width=hint_width(slots)),
            on_end=self._sender.poke,
        )
        self._patience_seconds = settings.drain_seconds
        for task in (
            Call(
                TICK_TASK, reconciler.tick, is_shown=False
            ),  # one a second would push the jobs out of Flower's memory
            Call(SWEEP_TASK, sweep.run),
            Call(BATCH_TASK, self._clerk.poke),
            Call(SEND_TASK, self._sender.poke),
        ):
            app.register_task(task)
        self._worker = HintWorker(app, name=MAINTENANCE, queues=[MAINTENANCE, WEBHOOKS], threads=THREADS)
        self._shutdown = Shutdown(settings.drain_seconds, drain=self._worker.stop_soon, hurry=self._sender.hurry)

    def run(self) -> None:
        """Consume until told to stop."""
        self._shutdown.install()
        self._sender.start()
        self._clerk.start()
        if self._ready_file:
            Path(self._ready_file).touch()
        log.info("The maintenance worker is ready.")
        self._worker.start()
        self._clerk.stop(self._patience_seconds)
        self._sender.stop(self._patience_seconds)
        log.info("The maintenance worker has stopped.")
