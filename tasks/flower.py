"""The application that Flower runs with: it knows every queue of the catalog, and nobody looks without a password."""

from __future__ import annotations

import logging
import sys

from celery import Celery
from flower.views import BaseHandler

from schemas.errors import CatalogError
from storage.catalog import read_catalog
from storage.settings import StorageSettings
from tasks.celery_app import create_app
from tasks.routing import placements
from tasks.settings import TaskSettings


def create_flower_app(storage: StorageSettings, settings: TaskSettings) -> Celery:
    """Make the application that Flower runs with, or leave with a sentence."""
    if not settings.flower_basic_auth:
        sys.exit("Flower would be open to everybody: set STOKER_FLOWER_BASIC_AUTH to USER:PASSWORD and start again.")
    try:
        catalog = read_catalog(storage.catalog)
    except CatalogError as error:
        sys.exit(str(error))
    # As long as no worker is there, it would say of each of its questions that nobody answered.
    logging.getLogger("flower.inspector").setLevel(logging.ERROR)
    # Flower itself asks the workers what they consume once, when it starts, and most of them are still loading then.
    BaseHandler.get_active_queue_names = _queue_names
    return create_app(storage, settings, [place.queue for place in placements(catalog)])


def _queue_names(page: BaseHandler) -> list[str]:
    return sorted(queue.name for queue in page.capp.conf.task_queues)
