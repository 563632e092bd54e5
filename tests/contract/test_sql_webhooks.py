"""Deliveries in SQL: written with the change they tell of, claimed by lease, fenced, replayed under the same id."""

import json
import time
from typing import Any

import pytest
import sqlalchemy as sa

from schemas.ids import new_id
from schemas.jobs import Status
from storage import jobs, queues, retention, workers
from storage.claims import Release, release
from storage.database import Database
from storage.webhooks import deliveries, endpoints, secrets, sending
from storage.webhooks.deliveries import Delivery, DeliveryFilter
from storage.webhooks.endpoints import Endpoint, NewEndpoint
from storage.webhooks.sending import Result, Wish
from tests.contract import test_sql_batches as batches
from tests.contract.sql import CALLER, QUEUE, claim_one, finish, register, row, status_of, submit

ENDS = "job.succeeded job.failed job.canceled job.expired"
ORIGIN = "https://hooks.example"


def hook(events: str = ENDS, **changes: Any) -> str:
    return json.dumps({"base": "http://s", "url": f"{ORIGIN}/a", "origin": ORIGIN, "events": events, **changes})


def add_endpoint(database: Database, events: str = ENDS, origin: str = ORIGIN, caller: str = CALLER) -> Endpoint:
    new = NewEndpoint(new_id("ep"), caller, f"{origin}/all", origin, events, "", '{"base":"http://s"}')
    made = database.transact(lambda connection: endpoints.create(connection, new, 5))
    assert made is not None
    return made


def log(database: Database, caller: str = CALLER, **wanted: Any) -> list[Delivery]:
    return database.read(lambda connection: deliveries.page(connection, DeliveryFilter(caller, 100, **wanted)))


def events_of(database: Database) -> list[str]:
    return sorted(one.event for one in log(database))


def take(database: Database, limit: int = 100, lease: float = 60, origin: str = ORIGIN) -> list[Delivery]:
    return database.write(sending.claim, Wish({origin: limit}, lease))


def record(database: Database, delivery: Delivery, status: int | None = 200, **changes: Any) -> bool:
    is_delivered = status == 200
    result = Result(delivery, status, 12.5, None if is_delivered else "no", is_delivered=is_delivered, **changes)
    return database.write(sending.record, result)


def end(database: Database, how: str) -> None:
    """End the one queued job in one of the ways there are."""
    if how in {"succeeded", "failed"}:
        finish(database, claim_one(database), Status(how))
    elif how == "canceled":
        [job] = [one.id for one in database.read(_all)]
        database.transact(lambda connection: jobs.cancel(connection, job))
    elif how == "purged":
        database.transact(lambda connection: queues.purge(connection, QUEUE))
    elif how == "canceled on release":
        job = claim_one(database)
        database.transact(lambda connection: jobs.cancel(connection, job.id))
        database.write(release, Release(job.id, job.attempt))
    elif how == "expired":
        database.transact(lambda connection: connection.execute(sa.text("UPDATE jobs SET expires_at = 0")))
        database.transact(retention.expire)
    elif how == "lost":
        for most_lost in (0, 2, 2):
            register(database, f"worker_{time.monotonic_ns()}", -1)
            claim_one(database, most_lost=most_lost)
            database.transact(workers.requeue_lost)
    else:
        database.transact(lambda connection: retention.fail_removed_models(connection, ["other"]))


def _all(connection: sa.Connection) -> list[Any]:
    return list(connection.execute(sa.text("SELECT id FROM jobs")))


WAYS = {
    "succeeded": "job.succeeded",
    "failed": "job.failed",
    "canceled": "job.canceled",
    "purged": "job.canceled",
    "canceled on release": "job.canceled",
    "expired": "job.expired",
    "lost": "job.failed",
    "model removed": "job.failed",
}


@pytest.mark.parametrize("how", WAYS)
def test_every_way_to_end_writes_its_delivery_with_the_end(database: Database, how: str) -> None:
    job_id = submit(database, webhook=hook())
    assert log(database) == []
    end(database, how)
    [delivery] = log(database)
    assert (delivery.event, delivery.job_id, delivery.caller_id) == (WAYS[how], job_id, CALLER)
    assert (delivery.status, delivery.url, delivery.origin) == ("pending", f"{ORIGIN}/a", ORIGIN)
    assert delivery.id == f"msg_{job_id[4:]}_{delivery.event[4:]}"


def test_a_job_without_a_webhook_writes_nothing(database: Database) -> None:
    job_id = submit(database)
    end(database, "succeeded")
    assert row(database, job_id).webhook is None
    assert log(database) == []


def test_what_is_rolled_back_was_no_news(database: Database) -> None:
    submit(database, webhook=hook())
    job = claim_one(database)

    def finish_and_fail(connection: sa.Connection) -> None:
        connection.execute(sa.text("UPDATE jobs SET status = 'succeeded' WHERE id = :id"), {"id": job.id})
        assert connection.execute(sa.text("SELECT count(*) FROM webhook_deliveries")).scalar_one() == 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.transact(finish_and_fail)
    assert log(database) == []


def test_a_start_is_told_once_however_often_the_job_starts(database: Database) -> None:
    submit(database, webhook=hook("job.started job.succeeded"))
    job = claim_one(database)
    database.write(release, Release(job.id, job.attempt))
    end(database, "succeeded")
    assert events_of(database) == ["job.started", "job.succeeded"]


def test_a_group_of_ends_tells_of_each(database: Database) -> None:
    for number in range(8):
        submit(database, webhook=hook() if number % 2 else None)
    database.transact(lambda connection: queues.purge(connection, QUEUE))
    assert events_of(database) == ["job.canceled"] * 4


def test_endpoints_get_the_events_they_asked_for(database: Database) -> None:
    ends, starts = add_endpoint(database), add_endpoint(database, "job.started", "https://other.example")
    add_endpoint(database, caller="caller_b")
    submit(database)
    submit(database, webhook=hook())
    for _ in range(2):
        end(database, "succeeded")
    told = sorted((one.endpoint_id or "", one.event) for one in log(database))
    assert told == sorted([("", "job.succeeded"), *[(ends.id, "job.succeeded"), (starts.id, "job.started")] * 2])
    assert len({one.id for one in log(database)}) == 5
    assert log(database, caller="caller_b") == []


def test_an_endpoint_also_gets_the_events_of_jobs_that_were_there_before(database: Database) -> None:
    waiting, running = submit(database), submit(database)
    first = claim_one(database)
    add_endpoint(database)
    finish(database, first)
    end(database, "succeeded")
    assert {one.job_id for one in log(database)} == {waiting, running}


def test_an_endpoint_is_for_its_callers_jobs_and_batches_only(database: Database) -> None:
    theirs = "caller_b"
    job_ids, made = [submit(database, caller_id=theirs)], [batches.add(database, caller_id=theirs)]
    add_endpoint(database)
    job_ids.append(submit(database, caller_id=theirs))
    made.append(batches.add(database, caller_id=theirs))
    assert [row(database, job_id).webhook for job_id in job_ids] == [None, None]
    assert [batches.find(database, one).webhook for one in made] == [None, None]


def test_no_more_endpoints_than_allowed(database: Database) -> None:
    for _ in range(5):
        add_endpoint(database)
    new = NewEndpoint(new_id("ep"), CALLER, "u", "o", ENDS, "", "{}")
    assert database.transact(lambda connection: endpoints.create(connection, new, 5)) is None


def test_a_claim_takes_what_is_due_and_no_more_than_wished(database: Database) -> None:
    for number in range(6):
        submit(database, webhook=hook(origin=f"https://h{number % 2}.example"))
    for _ in range(6):
        end(database, "succeeded")
    assert sorted(database.read(sending.due_origins)) == ["https://h0.example", "https://h1.example"]
    wishes = {"https://h0.example": 2, "https://h1.example": 9, "https://nobody.example": 3}
    taken = database.write(sending.claim, Wish(wishes, 60))
    assert sorted(one.origin for one in taken) == ["https://h0.example"] * 2 + ["https://h1.example"] * 3
    assert database.read(sending.due_origins) == ["https://h0.example"]


def test_a_sender_that_died_loses_nothing_and_one_that_was_slow_writes_nothing(database: Database) -> None:
    submit(database, webhook=hook())
    end(database, "succeeded")
    [slow] = take(database, lease=-1)
    [second] = take(database)
    assert (slow.id, take(database)) == (second.id, [])
    assert not record(database, slow)
    assert record(database, second)
    [delivery] = log(database)
    assert (delivery.status, delivery.attempts, delivery.next_at) == ("delivered", 1, None)


def test_attempts_are_kept_with_what_came_of_them(database: Database) -> None:
    submit(database, webhook=hook())
    end(database, "succeeded")
    [first] = take(database)
    record(database, first, 500, next_in_seconds=-1)
    [second] = take(database)
    record(database, second, None, next_in_seconds=100)
    assert take(database) == []
    found = database.read(lambda connection: deliveries.find(connection, first.id, CALLER))
    assert found is not None
    delivery, tried = found
    assert [(one.number, one.status, one.latency_ms, one.error) for one in tried] == [
        (1, 500, 12.5, "no"),
        (2, None, 12.5, "no"),
    ]
    assert (delivery.status, delivery.attempts, delivery.tries, delivery.last_error) == ("pending", 2, 2, "no")
    assert database.read(lambda connection: deliveries.find(connection, first.id, "caller_b")) is None


def test_a_replay_keeps_the_id_and_begins_the_schedule_anew(database: Database) -> None:
    submit(database, webhook=hook())
    end(database, "succeeded")
    [first] = take(database)
    record(database, first)
    assert not database.transact(lambda connection: deliveries.replay(connection, first.id, "caller_b"))
    assert database.transact(lambda connection: deliveries.replay(connection, first.id, CALLER))
    [again] = take(database)
    assert (again.id, again.tries, again.attempts) == (first.id, 0, 1)
    assert record(database, again)
    assert log(database)[0].attempts == 2


def test_what_an_endpoint_missed_is_replayed_and_nothing_else(database: Database) -> None:
    endpoint = add_endpoint(database)
    for _ in range(3):
        submit(database)
        end(database, "succeeded")
    arrived, missed, _waiting = take(database)
    record(database, arrived)
    record(database, missed, 500)
    again = database.transact(lambda connection: deliveries.replay_since(connection, endpoint.id, time.time() - 60))
    late = database.transact(lambda connection: deliveries.replay_since(connection, endpoint.id, time.time() + 60))
    assert (again, late) == (1, 0)
    assert [one.id for one in take(database)] == [missed.id]


def test_gone_disables_an_endpoint_and_ends_what_waits_for_it(database: Database) -> None:
    endpoint = add_endpoint(database)
    for _ in range(2):
        submit(database)
        end(database, "succeeded")
    first, _second = take(database)
    record(database, first, 410, is_gone=True)
    submit(database)
    end(database, "succeeded")
    assert [one.status for one in log(database)] == ["exhausted"] * 2
    found = database.read(lambda connection: endpoints.find(connection, endpoint.id, CALLER))
    assert found is not None
    assert (found.enabled, "410 Gone" in (found.disabled_reason or "")) == (0, True)
    enabled = database.transact(lambda connection: endpoints.change(connection, found, {"enabled": 1}))
    assert (enabled.enabled, enabled.disabled_reason) == (1, None)


def test_five_days_of_failures_disable_an_endpoint_and_a_success_between_does_not(database: Database) -> None:
    endpoint = add_endpoint(database)

    def fail(**changes: Any) -> Endpoint:
        submit(database)
        end(database, "succeeded")
        [taken] = take(database)
        record(database, taken, **changes)
        return database.read(lambda connection: endpoints.by_id(connection, [endpoint.id]))[endpoint.id]

    def age(days: int) -> None:
        update = sa.text("UPDATE webhook_endpoints SET failing_since = failing_since - :seconds")
        database.transact(lambda connection: connection.execute(update, {"seconds": days * 86_400}))

    assert fail(status=500).failing_since is not None
    age(6)
    assert fail(status=200, was_failing=True).failing_since is None
    fail(status=500)
    age(4)
    assert fail(status=None).enabled == 1
    age(2)
    disabled = fail(status=503)
    assert (disabled.enabled, "failed for 5 days" in (disabled.disabled_reason or "")) == (0, True)


def test_what_waits_moves_with_its_endpoint_and_ends_with_it(database: Database) -> None:
    endpoint = add_endpoint(database)
    submit(database)
    end(database, "succeeded")
    changes: dict[str, object] = {"url": "https://new.example/x", "origin": "https://new.example"}
    moved = database.transact(lambda connection: endpoints.change(connection, endpoint, changes))
    assert (moved.url, log(database)[0].origin) == ("https://new.example/x", "https://new.example")
    database.transact(lambda connection: endpoints.delete(connection, endpoint.id))
    assert [(one.status, one.last_error) for one in log(database)] == [("exhausted", "The endpoint was deleted.")]


def test_two_secrets_sign_while_they_overlap(database: Database) -> None:
    first = database.transact(lambda connection: secrets.of_caller(connection, CALLER))
    assert database.transact(lambda connection: secrets.of_caller(connection, CALLER)) == first
    second = database.transact(lambda connection: secrets.rotate(connection, CALLER, 60))
    assert second.signing(time.time()) == [second.current, first.current]
    assert second.signing(time.time() + 61) == [second.current]
    endpoint = add_endpoint(database)
    rotated = database.transact(lambda connection: endpoints.rotate(connection, endpoint.id, 60))
    assert rotated.secrets.signing(time.time()) == [rotated.secret, endpoint.secret]


def test_a_rotation_leaves_everybody_elses_secrets(database: Database) -> None:
    def all_secrets(connection: sa.Connection) -> list[str]:
        here = endpoints.by_id(connection, {one.id for one in both})
        return [
            *(secrets.of_caller(connection, caller).current for caller in (CALLER, "caller_b")),
            *(here[one.id].secret for one in both),
        ]

    both = [add_endpoint(database), add_endpoint(database)]
    before = database.transact(all_secrets)
    database.transact(lambda connection: secrets.rotate(connection, CALLER, 60))
    database.transact(lambda connection: endpoints.rotate(connection, both[0].id, 60))
    after = database.transact(all_secrets)
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, False, True]


def test_old_deliveries_are_forgotten_with_their_attempts(database: Database) -> None:
    for _ in range(2):
        submit(database, webhook=hook())
        end(database, "succeeded")
    [first] = take(database, limit=1)
    record(database, first)
    assert database.transact(lambda connection: deliveries.forget(connection, 60, 10)) == 0
    assert database.transact(lambda connection: deliveries.forget(connection, -1, 10)) == 1
    assert [one.status for one in log(database)] == ["pending"]
    assert database.read(lambda c: c.execute(sa.text("SELECT count(*) FROM webhook_attempts")).scalar_one()) == 0


def test_a_list_is_filtered_and_paged(database: Database) -> None:
    ids = []
    for _ in range(3):
        ids.append(submit(database, webhook=hook()))
        end(database, "succeeded")
    [first] = log(database, job_id=ids[0])
    record(database, next(one for one in take(database) if one.id == first.id))
    assert [one.job_id for one in log(database)] == ids[::-1]
    assert [one.id for one in log(database, status="delivered")] == [first.id]
    assert [one.job_id for one in log(database, after=log(database)[1].id)] == [ids[0]]
    assert log(database, occurred_before=time.time() - 60) == log(database, event="job.failed") == []
    assert len(log(database, occurred_after=time.time() - 60, event="job.succeeded")) == 3
    assert status_of(database, ids[0]) == "succeeded"
