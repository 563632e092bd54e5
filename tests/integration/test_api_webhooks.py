"""Webhooks over HTTP: what may be asked for, what is refused, and the log of what was sent."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from producer_api.webhooks import (
    DeliveryAnswer,
    DeliveryLog,
    DeliveryPage,
    EndpointAnswer,
    EndpointList,
    NewEndpointAnswer,
    ReplayAnswer,
    SecretAnswer,
)
from storage.database import Database
from storage.webhooks import sending
from storage.webhooks.sending import Result, Wish
from tests.api import TEXT, Desk, memory_services, open_desk
from tests.integration.sending import run_sender
from tests.receiver import run_receiver

URL = "https://hooks.example/in"
ENDPOINTS = "/v1/webhooks/endpoints"
DELIVERIES = "/v1/webhooks/deliveries"


@pytest.fixture
async def open_house(api_database: Database) -> AsyncIterator[Desk]:
    """An API whose owner lets webhooks go to this machine."""
    services = memory_services(api_database)
    allowed = {"egress_allow": "127.0.0.0/8", "egress_ports": "1-65535", "egress_http": True}
    settings = services.task_settings.model_copy(update={**allowed, "max_endpoints_per_caller": 3})
    async with open_desk(replace(services, task_settings=settings)) as desk:
        yield desk


async def end_job(desk: Desk, **changes: Any) -> str:
    """Submit a job and end it as a worker would."""
    job_id = await desk.submit(**changes)
    worker = desk.worker()
    await worker.finish(worker.claim(), output={"text": "done"})
    return job_id


async def deliveries_of(desk: Desk, **query: Any) -> list[DeliveryAnswer]:
    answer = await desk.client.get(DELIVERIES, params=query)
    assert answer.status_code == 200, answer.text
    return DeliveryPage.model_validate_json(answer.content).data


REFUSED = [
    ({"url": "ftp://hooks.example/"}, "url_refused", "webhook.url", "must begin with https://"),
    ({"url": "http://hooks.example/"}, "url_refused", "webhook.url", "must begin with https://"),
    ({"url": "https://127.0.0.1/"}, "url_refused", "webhook.url", "not on the public internet"),
    ({"url": "https://hooks.example:22/"}, "url_refused", "webhook.url", "Port 22"),
    ({"url": "https://u:p@hooks.example/"}, "url_refused", "webhook.url", "user name"),
    ({"url": "https://hooks.example/" + "x" * 10_000}, "invalid", "webhook.url", "at most 2048 characters"),
    ({"url": ""}, "invalid", "webhook.url", "at least 1 character"),
    ({}, "invalid", "webhook.url", "is missing"),
    ({"url": URL, "events": ["job.exploded"]}, "invalid", "webhook.events.0", "job.started"),
    ({"url": URL, "events": []}, "invalid", "webhook.events", "at least 1"),
    ({"url": URL, "secret": "mine"}, "invalid", "webhook.secret", "There is no field"),
    (URL, "invalid", "webhook", "not valid"),
]


@pytest.mark.parametrize(("webhook", "code", "param", "words"), REFUSED)
async def test_a_webhook_that_cannot_be_is_refused_and_makes_no_job(
    desk: Desk, webhook: Any, code: str, param: str, words: str
) -> None:
    answer = await desk.client.post("/v1/jobs", json={**TEXT, "webhook": webhook})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"].removeprefix("text.")) == (422, code, param)
    assert words in error["message"]
    assert desk.count_rows() == 0


async def test_a_jobs_own_webhook_is_logged_with_its_end(desk: Desk) -> None:
    job_id = await end_job(desk, webhook={"url": URL})
    await end_job(desk)
    [delivery] = await deliveries_of(desk)
    assert (delivery.job, delivery.event, delivery.status, delivery.url) == (job_id, "job.succeeded", "pending", URL)
    assert [one.id for one in await deliveries_of(desk, job=job_id)] == [delivery.id]
    assert await deliveries_of(desk, status="delivered") == []


async def test_a_retry_asks_for_the_same_events(desk: Desk) -> None:
    job_id = await end_job(desk, webhook={"url": URL, "events": ["job.started"]})
    answer = await desk.client.post(f"/v1/jobs/{job_id}/retry")
    assert answer.status_code == 202
    desk.worker().claim()
    assert {one.event for one in await deliveries_of(desk, job=answer.json()["id"])} == {"job.started"}


async def test_an_endpoint_lives_from_its_registration_to_its_end(desk: Desk) -> None:
    made = await desk.client.post(ENDPOINTS, json={"url": URL, "events": ["job.failed"], "description": "pager"})
    assert made.status_code == 201
    endpoint = NewEndpointAnswer.model_validate_json(made.content)
    assert endpoint.secret.startswith("whsec_")
    at = f"{ENDPOINTS}/{endpoint.id}"
    looked = await desk.client.get(at)
    assert EndpointAnswer.model_validate_json(looked.content).description == "pager"
    assert endpoint.secret not in looked.text
    changed = await desk.client.patch(at, json={"events": ["job.succeeded"], "url": f"{URL}/2"})
    assert EndpointAnswer.model_validate_json(changed.content).events == ["job.succeeded"]
    await end_job(desk)
    assert [one.endpoint for one in await deliveries_of(desk, endpoint=endpoint.id)] == [endpoint.id]
    disabled = await desk.client.patch(at, json={"enabled": False})
    assert disabled.json()["enabled"] is False
    assert [one.status for one in await deliveries_of(desk)] == ["exhausted"]
    await end_job(desk)
    assert len(await deliveries_of(desk)) == 1
    assert (await desk.client.post(f"{at}/test")).status_code == 409
    assert (await desk.client.delete(at)).status_code == 204
    listed = await desk.client.get(ENDPOINTS)
    assert EndpointList.model_validate_json(listed.content).data == []
    assert (await desk.client.get(at)).status_code == 404


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ({"url": "ftp://x.example"}, 422, "must begin with https://"),
        ({"url": "https://10.0.0.1"}, 422, "not on the public internet"),
        ({"url": URL, "events": ["batch.done"]}, 422, "job.started"),
        ({"url": URL, "secret": "s"}, 422, "There is no field 'secret'"),
        ({"events": ["job.failed"]}, 422, "'url' is missing"),
        ({"url": URL, "description": "x" * 501}, 422, "at most 500"),
    ],
)
async def test_an_endpoint_that_cannot_be_is_refused(desk: Desk, given: Any, status: int, words: str) -> None:
    answer = await desk.client.post(ENDPOINTS, json=given)
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True), answer.text
    assert (await desk.client.get(ENDPOINTS)).json()["data"] == []


async def test_a_caller_has_so_many_endpoints_and_no_more(open_house: Desk) -> None:
    for _ in range(3):
        assert (await open_house.client.post(ENDPOINTS, json={"url": URL})).status_code == 201
    refused = await open_house.client.post(ENDPOINTS, json={"url": URL})
    assert (refused.status_code, "have 3 endpoints" in refused.json()["error"]["message"]) == (429, True)
    other = await open_house.client.post(ENDPOINTS, json={"url": URL}, headers=open_house.bearer("other"))
    assert other.status_code == 201


async def test_what_is_anothers_is_not_found(desk: Desk) -> None:
    endpoint = (await desk.client.post(ENDPOINTS, json={"url": URL})).json()["id"]
    await end_job(desk)
    [delivery] = await deliveries_of(desk)
    stranger = desk.bearer("stranger")
    for method, path in (
        ("GET", f"{ENDPOINTS}/{endpoint}"),
        ("DELETE", f"{ENDPOINTS}/{endpoint}"),
        ("POST", f"{ENDPOINTS}/{endpoint}/rotate"),
        ("POST", f"{ENDPOINTS}/{endpoint}/test"),
        ("POST", f"{ENDPOINTS}/{endpoint}/replay?since=2026-01-01T00:00:00Z"),
        ("GET", f"{DELIVERIES}/{delivery.id}"),
        ("POST", f"{DELIVERIES}/{delivery.id}/replay"),
    ):
        answer = await desk.client.request(method, path, headers=stranger)
        assert answer.status_code == 404, path
    assert (await desk.client.get(DELIVERIES, headers=stranger)).json()["data"] == []
    seen = await desk.client.get(DELIVERIES, params={"caller": "local"}, headers=desk.bearer("boss"))
    assert len(seen.json()["data"]) == 1


async def test_reading_is_not_writing(desk: Desk) -> None:
    reader = desk.bearer("local", ("read",))
    assert (await desk.client.get(ENDPOINTS, headers=reader)).status_code == 200
    assert (await desk.client.get(DELIVERIES, headers=reader)).status_code == 200
    for method, path in (("POST", ENDPOINTS), ("GET", "/v1/webhooks/secret"), ("POST", "/v1/webhooks/secret/rotate")):
        assert (await desk.client.request(method, path, json={"url": URL}, headers=reader)).status_code == 403


async def test_the_secret_stays_until_it_is_rotated(desk: Desk) -> None:
    first = SecretAnswer.model_validate_json((await desk.client.get("/v1/webhooks/secret")).content)
    again = SecretAnswer.model_validate_json((await desk.client.get("/v1/webhooks/secret")).content)
    assert (first.secret, first.previous_until) == (again.secret, None)
    rotated = SecretAnswer.model_validate_json((await desk.client.post("/v1/webhooks/secret/rotate")).content)
    assert rotated.secret != first.secret
    assert rotated.previous_until is not None
    assert timedelta(hours=23) < rotated.previous_until - datetime.now(UTC) < timedelta(hours=25)


def give_up(desk: Desk, origin: str) -> int:
    """Let every due delivery fail for the last time."""
    taken = desk.database.write(sending.claim, Wish({origin: 100}, 60))
    for one in taken:
        desk.database.write(sending.record, Result(one, 500, 3.5, "It answered with status 500."))
    return len(taken)


async def test_what_was_given_up_is_replayed_alone_or_since_a_moment(desk: Desk) -> None:
    endpoint = (await desk.client.post(ENDPOINTS, json={"url": URL})).json()["id"]
    before = datetime.now(UTC) - timedelta(seconds=5)
    for _ in range(3):
        await end_job(desk)
    assert give_up(desk, "https://hooks.example") == 3
    exhausted = await deliveries_of(desk, status="exhausted")
    answer = await desk.client.get(f"{DELIVERIES}/{exhausted[0].id}")
    found = DeliveryLog.model_validate_json(answer.content)
    assert [(one.number, one.status, one.latency_ms) for one in found.log] == [(1, 500, 3.5)]
    assert found.last_error == "It answered with status 500."
    answer = await desk.client.post(f"{DELIVERIES}/{exhausted[0].id}/replay")
    assert (answer.status_code, answer.json()["status"], answer.json()["id"]) == (202, "pending", exhausted[0].id)
    answer = await desk.client.post(f"{ENDPOINTS}/{endpoint}/replay", params={"since": before.isoformat()})
    assert ReplayAnswer.model_validate_json(answer.content).replayed == 2
    assert {one.status for one in await deliveries_of(desk)} == {"pending"}
    assert (await desk.client.post(f"{ENDPOINTS}/{endpoint}/replay")).status_code == 422


async def test_the_log_is_paged_and_filtered(desk: Desk) -> None:
    for _ in range(3):
        await end_job(desk, webhook={"url": URL})
    first = (await desk.client.get(DELIVERIES, params={"limit": 2})).json()
    second = (await desk.client.get(DELIVERIES, params={"limit": 2, "after": first["next_cursor"]})).json()
    assert (len(first["data"]), first["has_more"]) == (2, True)
    assert (len(second["data"]), second["has_more"], second["next_cursor"]) == (1, False, None)
    future = datetime.fromtimestamp(time.time() + 60, UTC).isoformat()
    assert await deliveries_of(desk, occurred_after=future) == []
    assert len(await deliveries_of(desk, occurred_before=future, event="job.succeeded", status="pending")) == 3
    assert (await desk.client.get(DELIVERIES, params={"colour": "red"})).status_code == 422


async def test_a_test_event_reaches_the_endpoint_and_is_verified(open_house: Desk) -> None:
    async with run_receiver() as receiver:
        made = (await open_house.client.post(ENDPOINTS, json={"url": receiver.url})).json()
        answer = await open_house.client.post(f"{ENDPOINTS}/{made['id']}/test")
        assert (answer.status_code, answer.json()["event"]) == (202, "webhook.test")
        with run_sender(open_house.database):
            [received] = await receiver.until(1)
    assert Webhook(made["secret"]).verify(received.body, received.headers)["type"] == "webhook.test"
