"""A sender over a real database, and jobs that end at once with something to tell."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from schemas.jobs import Status
from storage.database import Database
from storage.objects.memory import MemoryObjectStore
from storage.webhooks import deliveries, secrets
from storage.webhooks.deliveries import AttemptRow, Delivery, DeliveryFilter
from tasks.settings import TaskSettings
from tasks.webhooks.sender import Sender
from tests.contract.sql import CALLER, claim_one, finish, submit

ENDS = "job.succeeded job.failed job.canceled job.expired"
SETTINGS = {
    "egress_allow": "127.0.0.0/8",
    "egress_ports": "1-65535",
    "egress_http": True,
    "webhook_delays": "0,0.2,0.2",
}


def hook(url: str, events: str = ENDS) -> str:
    """What admission writes for a job with this URL."""
    origin = "/".join(url.split("/")[:3])
    return json.dumps({"base": "http://stoker.test", "url": url, "origin": origin, "events": events})


def end_job(database: Database, url: str | None, status: Status = Status.SUCCEEDED, **ending: Any) -> str:
    """Submit a job, claim it, end it; its id."""
    job_id = submit(database, webhook=hook(url) if url else None)
    ending.setdefault("output", '{"text":"done"}')
    assert finish(database, claim_one(database), status, artifacts="[]", usage='{"completion_tokens":1}', **ending)
    return job_id


@contextmanager
def run_sender(database: Database, **changes: Any) -> Iterator[Sender]:
    """A running sender."""
    sender = Sender(database, MemoryObjectStore(), TaskSettings(**{**SETTINGS, **changes}))
    sender.start()
    try:
        yield sender
    finally:
        sender.stop(20)


def secret_of(database: Database) -> str:
    """What signs the deliveries of jobs' own URLs."""
    return database.transact(lambda connection: secrets.of_caller(connection, CALLER)).current


def log(database: Database, **wanted: Any) -> list[Delivery]:
    """The deliveries, newest first."""
    return database.read(lambda connection: deliveries.page(connection, DeliveryFilter(CALLER, 100, **wanted)))


def attempts(database: Database, delivery_id: str) -> list[AttemptRow]:
    """What was tried."""
    found = database.read(lambda connection: deliveries.find(connection, delivery_id, CALLER))
    assert found is not None
    return found[1]
