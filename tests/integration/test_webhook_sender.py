"""Deliveries on their way to real receivers: what arrives, what is tried again, what ends."""

import json
import threading
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook

from schemas.errors import DatabaseFaultError
from schemas.ids import new_id
from schemas.jobs import Job, Status
from storage.database import Database
from storage.webhooks import deliveries, endpoints, secrets, sending
from storage.webhooks.endpoints import Endpoint, NewEndpoint
from tests.api import eventually
from tests.contract.sql import CALLER
from tests.integration.sending import ENDS, attempts, end_job, log, run_sender, secret_of
from tests.receiver import Receiver, answer, run_receiver


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have senders look every tenth of a second."""
    monkeypatch.setattr("tasks.webhooks.sender.POLL_SECONDS", 0.1)
    monkeypatch.setattr("tasks.webhooks.sender.RECORD_TRIES_SECONDS", 0.1)


async def until_status(database: Database, status: str, count: int = 1) -> None:
    async def holds() -> bool:
        return len(log(database, status=status)) == count

    await eventually(holds)


def register(database: Database, receiver: Receiver, events: str = ENDS) -> Endpoint:
    new = NewEndpoint(
        new_id("ep"), CALLER, receiver.url, receiver.url.removesuffix("/hook"), events, "", '{"base":"http://s"}'
    )
    made = database.transact(lambda connection: endpoints.create(connection, new, 9))
    assert made is not None
    return made


async def test_a_job_that_ends_is_told_as_a_poll_would_show_it(database: Database) -> None:
    async with run_receiver() as receiver:
        with run_sender(database) as sender:
            job_id = end_job(database, receiver.url)
            sender.poke()
            [received] = await receiver.until(1)
            await until_status(database, "delivered")
    said = Webhook(secret_of(database)).verify(received.body, received.headers)
    assert said["type"] == "job.succeeded"
    job = Job.model_validate(said["data"])
    assert (job.id, job.status, job.output, job.usage) == (
        job_id,
        "succeeded",
        {"text": "done"},
        {"completion_tokens": 1},
    )
    assert job.input == {"prompt": "hello"}
    assert job.urls.get == f"http://stoker.test/v1/jobs/{job_id}"
    assert (received.method, received.path, received.headers["content-type"]) == ("POST", "/hook", "application/json")
    [delivery] = log(database)
    assert received.headers["webhook-id"] == delivery.id
    [attempt] = attempts(database, delivery.id)
    assert (attempt.number, attempt.status, attempt.error) == (1, 200, None)


async def test_what_nobody_hinted_at_is_found(database: Database) -> None:
    async with run_receiver() as receiver:
        job_id = end_job(database, receiver.url)
        with run_sender(database):
            [received] = await receiver.until(1)
    assert json.loads(received.body)["data"]["id"] == job_id


async def test_a_failed_attempt_is_repeated_under_the_same_id_until_it_is_taken(database: Database) -> None:
    async with run_receiver() as receiver:
        receiver.reply = lambda _: (
            answer(500, b"secret of the receiver") if len(receiver.received) < 3 else answer(204)
        )
        with run_sender(database):
            end_job(database, receiver.url)
            received = await receiver.until(3)
            await until_status(database, "delivered")
    assert len({one.headers["webhook-id"] for one in received}) == 1
    [delivery] = log(database)
    tried = attempts(database, delivery.id)
    assert [one.status for one in tried] == [500, 500, 204]
    assert "secret" not in repr(tried)


async def test_the_last_attempt_exhausts_a_delivery_and_a_replay_brings_it_again(database: Database) -> None:
    async with run_receiver() as receiver:
        receiver.reply = lambda _: answer(302, Location="http://127.0.0.1:1/")
        with run_sender(database) as sender:
            end_job(database, receiver.url)
            await until_status(database, "exhausted")
            assert len(receiver.received) == 3
            [delivery] = log(database)
            assert delivery.last_error == "It answered with status 302."
            receiver.reply = lambda _: answer(200)
            assert database.transact(lambda connection: deliveries.replay(connection, delivery.id, CALLER))
            sender.poke()
            await until_status(database, "delivered")
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 1


async def test_a_receiver_that_takes_it_and_drops_the_connection_gets_it_twice_under_one_id(
    database: Database,
) -> None:
    async with run_receiver() as receiver:
        receiver.hangs_up = True
        with run_sender(database):
            end_job(database, receiver.url)
            await receiver.until(1)
            receiver.hangs_up = False
            await until_status(database, "delivered")
    assert {one.headers["webhook-id"] for one in receiver.received} == {log(database)[0].id}


async def test_retry_after_is_honoured_for_all_that_goes_there(database: Database) -> None:
    async with run_receiver() as receiver:
        receiver.reply = lambda _: answer(503, Retry_After="1") if len(receiver.received) == 1 else answer(200)
        with run_sender(database) as sender:
            end_job(database, receiver.url)
            [busy] = await receiver.until(1)
            await eventually(lambda: _has_failed(database))
            end_job(database, receiver.url)
            sender.poke()
            await receiver.until(3)
    assert min(one.at for one in receiver.received[1:]) - busy.at >= 0.9


async def _has_failed(database: Database) -> bool:
    return any(one.attempts for one in log(database))


async def test_gone_disables_the_endpoint(database: Database) -> None:
    async with run_receiver() as receiver:
        endpoint = register(database, receiver)
        receiver.reply = lambda _: answer(410)
        with run_sender(database):
            end_job(database, None)
            await until_status(database, "exhausted")
    assert len(receiver.received) == 1
    found = database.read(lambda connection: endpoints.by_id(connection, [endpoint.id]))[endpoint.id]
    assert (found.enabled, found.disabled_reason) == (0, endpoints.GONE)


async def test_an_endpoint_signs_with_its_own_secret_and_the_one_before(database: Database) -> None:
    async with run_receiver() as receiver:
        old = register(database, receiver)
        new = database.transact(lambda connection: endpoints.rotate(connection, old.id, 60))
        with run_sender(database):
            end_job(database, None)
            [received] = await receiver.until(1)
    for one in (old.secret, new.secret):
        Webhook(one).verify(received.body, received.headers)
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(secret_of(database)).verify(received.body, received.headers)


async def test_an_address_inside_is_never_contacted(database: Database) -> None:
    async with run_receiver() as receiver:
        with run_sender(database, egress_allow=""):
            end_job(database, receiver.url)
            await until_status(database, "exhausted")
    assert receiver.connections == 0
    assert "not on the public internet" in (log(database)[0].last_error or "")


async def test_a_body_stays_small_and_says_what_it_leaves_out(database: Database) -> None:
    async with run_receiver() as receiver:
        with run_sender(database):
            end_job(database, receiver.url, output=json.dumps({"text": "x" * 16_000, "more": "y" * 6_000}))
            [received] = await receiver.until(1)
    assert len(received.body) < 20_000
    said = json.loads(received.body)
    assert (said["omitted"], said["data"]["output"]) == (["input", "output"], None)


async def test_a_job_that_is_no_longer_kept_has_nothing_to_tell(database: Database) -> None:
    async with run_receiver() as receiver:
        job_id = end_job(database, receiver.url)
        delete = sa.text("DELETE FROM jobs WHERE id = :id")
        database.transact(lambda connection: connection.execute(delete, {"id": job_id}))
        with run_sender(database):
            await until_status(database, "exhausted")
    assert receiver.received == []
    assert log(database)[0].last_error == "The job is no longer kept."


async def test_a_test_event_arrives_by_itself(database: Database) -> None:
    async with run_receiver() as receiver:
        endpoint = register(database, receiver, "job.failed")
        database.transact(lambda connection: deliveries.add_test(connection, new_id("msg"), endpoint))
        with run_sender(database):
            [received] = await receiver.until(1)
    assert Webhook(endpoint.secret).verify(received.body, received.headers)["type"] == "webhook.test"


async def test_a_hanging_receiver_does_not_delay_another(database: Database) -> None:
    async with run_receiver() as hanging, run_receiver() as quick:
        hanging.reply = lambda _: None
        with run_sender(database, webhook_timeout_seconds=60) as sender:
            for _ in range(30):
                end_job(database, hanging.url)
            for _ in range(30):
                end_job(
                    database, quick.url, Status.FAILED, error='{"type":"t","code":"c","message":"m","retryable":false}'
                )
            await quick.until(30)  # nobody waits for the time-out of another
            assert 1 <= len(hanging.received) <= 8
            sender.hurry()


async def test_a_sender_in_a_hurry_drops_what_is_on_its_way_and_blames_nobody(database: Database) -> None:
    async with run_receiver() as hanging:
        hanging.reply = lambda _: None
        end_job(database, hanging.url)
        with run_sender(database, webhook_timeout_seconds=60) as sender:
            await hanging.until(1)
            sender.hurry()
    assert "webhooks" not in [thread.name for thread in threading.enumerate()], "it has ended"
    [delivery] = log(database)
    assert (delivery.status, attempts(database, delivery.id)) == ("pending", [])


async def test_what_a_dead_sender_held_is_sent_when_its_lease_is_over(database: Database) -> None:
    async with run_receiver() as receiver:
        end_job(database, receiver.url)
        dead = sending.Wish({receiver.url.removesuffix("/hook"): 1}, 1.5)
        assert len(database.write(sending.claim, dead)) == 1
        with run_sender(database):
            await until_status(database, "delivered")
    assert len(receiver.received) == 1


async def test_a_result_that_cannot_be_written_now_is_written_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = iter([True, True])

    def record(connection: sa.Connection, results: Sequence[sending.Result]) -> list[bool]:
        if next(faults, False):
            raise DatabaseFaultError("locked")
        return real(connection, results)

    real = sending.record
    monkeypatch.setattr(sending, "record", record)
    async with run_receiver() as receiver:
        with run_sender(database):
            end_job(database, receiver.url)
            await until_status(database, "delivered")
    assert len(receiver.received) == 1
    assert next(faults, None) is None


async def test_a_caller_gets_a_secret_with_the_first_delivery(database: Database) -> None:
    async with run_receiver() as receiver:
        with run_sender(database):
            job_id = end_job(database, receiver.url)
            [received] = await receiver.until(1)
    kept = database.read(lambda connection: secrets.of_callers(connection, [CALLER]))
    said = Webhook(kept[CALLER].current).verify(received.body, received.headers)
    assert said["data"]["id"] == job_id
