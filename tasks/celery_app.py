"""The Celery application: how hints travel. Beat and Flower start from here; workers bring their own settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue

from schemas.errors import StartError
from storage.settings import StorageSettings
from tasks.routing import MAINTENANCE, WEBHOOKS
from tasks.settings import TaskSettings

# Its routing needs no key in Redis, so a Redis that forgot everything still routes.
ANONYMOUS = Exchange("")  # type: ignore[no-untyped-call]  # kombu is half typed
TICK_TASK = "maintenance.tick"
SWEEP_TASK = "maintenance.sweep"
ANSWER_SECONDS = 5
TRANSPORT = {
    "socket_timeout": ANSWER_SECONDS,
    "socket_connect_timeout": ANSWER_SECONDS,
    "socket_keepalive": True,
    "health_check_interval": 10,
}


def create_app(storage: StorageSettings, settings: TaskSettings, queues: Sequence[str] = ()) -> Celery:
    """Make the application; `queues` are those a worker consumes beside the two that everybody knows."""
    app = Celery("stoker", set_as_current=True)
    app.conf.update(
        broker_url=storage.redis_url,
        broker_transport_options=TRANSPORT,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        accept_content=["json"],
        task_serializer="json",
        event_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_rate_limits=True,
        worker_send_task_events=True,
        task_send_sent_event=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_queues=[_queue(name) for name in (*queues, MAINTENANCE, WEBHOOKS)],
        task_default_queue=MAINTENANCE,
        task_default_exchange="",
        task_create_missing_queues=False,
        beat_scheduler="celery.beat:Scheduler",  # in memory: nothing is due that a restart must remember
        beat_schedule=_schedule(settings),
    )
    return app


def _queue(name: str) -> Queue:
    return Queue(name, ANONYMOUS, routing_key=name)  # type: ignore[no-untyped-call]  # as above


def _schedule(settings: TaskSettings) -> dict[str, Any]:
    """What beat sends; a message that nobody took in time is void, so that none pile up."""
    return {
        name: {"task": name, "schedule": seconds, "options": {"queue": MAINTENANCE, "expires": 2 * seconds}}
        for name, seconds in ((TICK_TASK, settings.tick_seconds), (SWEEP_TASK, settings.sweep_seconds))
    }


def __getattr__(name: str) -> Celery:
    """Make `app` when the celery command asks for it, from the environment; nobody else imports it."""
    if name != "app":
        raise AttributeError(name)
    try:
        storage, settings = StorageSettings.read(os.environ), TaskSettings.read(os.environ)
    except StartError as error:
        sys.exit(error.message)
    if "flower" in sys.argv:
        from tasks.flower import create_flower_app  # noqa: PLC0415  # it makes its application here, and only it

        os.environ["FLOWER_BASIC_AUTH"] = settings.flower_basic_auth  # not in its arguments, where `ps` shows it
        return create_flower_app(storage, settings)
    return create_app(storage, settings)
