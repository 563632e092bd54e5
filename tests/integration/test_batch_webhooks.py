"""The end of a batch on its way to real receivers: told once, with the batch as a poll would show it."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook

from producer_api.batch_wishes import BatchAnswer
from schemas.ids import new_id
from schemas.webhooks import BATCH_EVENTS
from storage import batches
from storage.batches import BatchRow, NewBatch
from storage.database import Database
from storage.tables import batches as table
from tasks.batch_views import batch_view
from tests.contract.sql import CALLER
from tests.integration.sending import end_job, hook, log, run_sender, secret_of
from tests.integration.test_webhook_sender import register, until_status
from tests.receiver import run_receiver

ALL = " ".join(BATCH_EVENTS)


def add(database: Database, webhook: str | None, **changes: Any) -> BatchRow:
    """A batch with this webhook."""
    said: dict[str, Any] = {"endpoint": "/v1/embeddings", "input_file_id": "file_1", "completion_window": "24h"}
    said |= {"caller_id": CALLER, "window_seconds": 60, "webhook": webhook, **changes}
    new = NewBatch(id=new_id("batch"), **said)
    return database.transact(lambda connection: batches.add(connection, new))


def end(database: Database, row: BatchRow, status: str, **values: Any) -> BatchRow:
    """End a batch as its work would; its row then."""
    statement = sa.update(table).where(table.c.id == row.id).values(status=status, **values)
    database.transact(lambda connection: connection.execute(statement))
    found = database.read(lambda connection: batches.find(connection, row.id))
    assert found is not None
    return found


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "expired"])
async def test_a_batch_that_ends_is_told_with_the_batch(database: Database, status: str) -> None:
    async with run_receiver() as receiver:
        with run_sender(database) as sender:
            row = add(database, hook(receiver.url, ALL), metadata='{"run":"nightly"}')
            for passing in ("in_progress", "finalizing"):
                end(database, row, passing)
            ended = end(database, row, status, total=3, completed=2, failed=1, output_file_id="file_o")
            sender.poke()
            [received] = await receiver.until(1)
            await until_status(database, "delivered")
    said = Webhook(secret_of(database)).verify(received.body, received.headers)
    assert said["type"] == f"batch.{status}"
    assert said["data"] == batch_view(ended)
    assert BatchAnswer.model_validate_json(json.dumps(said["data"])).request_counts.failed == 1
    assert len(log(database)) == 1


async def test_a_new_endpoint_hears_of_the_batches_that_run_already(database: Database) -> None:
    running, ended = add(database, None), add(database, None)
    another, own = add(database, None, caller_id="another"), add(database, hook("http://own.test", ALL))
    end(database, ended, "completed")
    async with run_receiver() as receiver:
        register(database, receiver, "batch.completed")
        with run_sender(database) as sender:
            assert end(database, own, "in_progress").webhook == own.webhook
            end(database, another, "completed")
            end(database, running, "completed")
            sender.poke()
            [received] = await receiver.until(1)
            await until_status(database, "delivered")
    assert json.loads(received.body)["data"]["id"] == running.id
    assert len(log(database)) == 1


async def test_endpoints_hear_of_the_ends_that_they_asked_for(database: Database) -> None:
    async with run_receiver() as receiver:
        register(database, receiver, "job.succeeded batch.completed")
        with run_sender(database) as sender:
            end(database, add(database, None), "cancelled")
            end(database, add(database, None), "completed")
            end_job(database, None)
            sender.poke()
            received = await receiver.until(2)
            await until_status(database, "delivered", 2)
    assert {json.loads(one.body)["type"] for one in received} == {"batch.completed", "job.succeeded"}


async def test_what_is_too_large_is_left_out_and_named(database: Database) -> None:
    flaw = {"code": "duplicate_custom_id", "line": 1, "message": "é" * 400, "param": None}
    metadata = json.dumps({f"{number}": "한" * 512 for number in range(16)})
    async with run_receiver() as receiver:
        with run_sender(database) as sender:
            row = add(database, hook(receiver.url, ALL), metadata=metadata)
            end(database, row, "failed", errors=json.dumps([flaw] * 100))
            sender.poke()
            [received] = await receiver.until(1)
    assert len(received.body) <= 20_000
    said = json.loads(received.body)
    assert said["omitted"] == ["errors", "metadata"]
    assert (len(said["data"]["errors"]["data"]), said["data"]["metadata"]) == (10, {})
