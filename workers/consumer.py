"""The Celery worker inside ours: it takes hints from Redis and hands each to a thread."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery
from celery.app import trace
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

from tasks.logs import get_logger
from workers.transport import OPTIONS, HintTransport

HEARTBEAT_SECONDS = 5
EVENTS_SECONDS = 0.2
EVENTS_LIMIT = 100_000
WAKE_BYTES = 4096
RETRY_SECONDS = 1

log = get_logger(__name__)


class HintConsumer(Consumer):
    """Celery's consumer, which comes back within a second of Redis; the stock one waits up to half a minute."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, however long it takes, unless the worker is stopped."""
        connected = conn.ensure_connection(
            self._on_refused,
            interval_start=RETRY_SECONDS,
            interval_step=0,
            interval_max=RETRY_SECONDS,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        return connected

    def on_send_event_buffered(self) -> None:
        """Leave the flush to the worker's timer; the stock consumer publishes after each round of its loop."""

    def _on_refused(self, fault: Exception, _interval: float) -> None:
        log.warning("Redis cannot be reached; jobs wait in SQL until it can.", fault=str(fault))


class HintWorker(WorkController):
    """Celery's worker with a pool of threads, stopped by `stop_soon` from any thread."""

    def __init__(self, app: Celery, *, name: str, queues: Sequence[str], threads: int = 1) -> None:
        logging.getLogger("celery").setLevel(logging.WARNING)  # it would say two lines for each message
        # By name: remote control tells it to Flower as JSON, which has no classes.
        app.conf.broker_transport = f"{HintTransport.__module__}:{HintTransport.__name__}"
        app.conf.broker_transport_options = {**app.conf.broker_transport_options, **OPTIONS}
        self.on_telling: Callable[[], None] = lambda: None
        """Called before events are sent, in the consumer's thread."""
        self._waking, self._wake = os.pipe()
        super().__init__(
            app=app,
            hostname=name,
            queues=list(queues),
            pool="threads",
            concurrency=threads,
            consumer_cls=HintConsumer,
            without_gossip=True,
            without_mingle=True,
            heartbeat_interval=HEARTBEAT_SECONDS,
        )

    def on_before_init(self, **options: Any) -> None:
        """Let the pool's threads find our application: Celery's own is known per thread."""
        super().on_before_init(**options)
        trace.setup_worker_optimizations(self.app, self.hostname)

    def register_with_event_loop(self, hub: Any) -> None:
        """Let other threads interrupt the wait for hints; tell Celery's events in batches."""
        super().register_with_event_loop(hub)
        hub.add_reader(self._waking, os.read, self._waking, WAKE_BYTES)
        hub.call_repeatedly(EVENTS_SECONDS, self._flush_events)
        self.consumer.event_dispatcher.buffer_limit = EVENTS_LIMIT  # whoever fills the buffer would have to publish it

    def stop_soon(self) -> None:
        """Take no more hints and return from `start` when the running ones are done."""
        state.should_stop = os.EX_OK
        self.wake()

    def wake(self) -> None:
        """Have the consumer look around, from any thread."""
        os.write(self._wake, b"w")

    def _flush_events(self) -> None:
        self.on_telling()
        sender = self.consumer.event_dispatcher
        if sender is not None:
            sender.flush()
