"""Jobs over HTTP: submit, look, wait, list, cancel, retry, delete."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from producer_api.documents import JobPage
from schemas.events import EventType
from schemas.jobs import Job, Status
from storage import jobs, retention
from tests.api import TEXT, Desk, eventually


async def test_a_submitted_job_is_a_row_and_can_be_looked_at(desk: Desk) -> None:
    answer = await desk.client.post(
        "/v1/jobs", json={**TEXT, "metadata": {"run": "a"}}, headers={"X-Request-Id": "r-1"}
    )
    assert answer.status_code == 202
    view = answer.json()
    Job.model_validate_json(answer.content)
    assert answer.headers["location"] == view["urls"]["get"] == f"http://stoker.test/v1/jobs/{view['id']}"
    assert answer.headers["x-request-id"] == "r-1"
    assert float(answer.headers["x-stoker-overhead-ms"]) > 0
    assert view["status"] == "queued"
    assert view["input"] == {"prompt": "hello"}
    assert view["metadata"] == {"run": "a"}
    row = desk.row(view["id"])
    assert (row.request_id, row.queue, row.revision, row.timeout_seconds) == ("r-1", "text.echo.cpu0", "main", 60)
    seen = await desk.look(view["id"])
    assert {**seen, "queue": None} == {**view, "queue": None}


async def test_a_waiting_job_knows_its_place_and_why_it_waits(desk: Desk) -> None:
    ids = [await desk.submit() for _ in range(3)]
    alone = (await desk.look(ids[2]))["queue"]
    assert alone == {
        "name": "text.echo.cpu0",
        "position": 3,
        "position_is_minimum": False,
        "eta_seconds": None,
        "reason": "no_worker",
    }


async def test_a_finished_job_shows_output_usage_metrics_and_links(desk: Desk) -> None:
    job_id = await desk.submit()
    worker = desk.worker()
    job = worker.claim()
    file = worker.store(job, "result.json", b'{"text":"hi"}')
    await worker.finish(
        job, output={"text": "hi"}, usage={"completion_tokens": 1}, metrics={"ttft_ms": 3.5}, artifacts=[file]
    )
    view = await desk.look(job_id)
    Job.model_validate_json(json.dumps(view))
    assert (view["status"], view["output"], view["usage"]) == ("succeeded", {"text": "hi"}, {"completion_tokens": 1})
    assert view["metrics"].keys() == {"ttft_ms", "queue_ms", "run_ms"}
    [artifact] = view["artifacts"]
    assert artifact["url"].startswith(f"memory://jobs/{job_id}/1-")
    assert artifact["bytes"] == 13
    assert view["deadline_at"] is None
    assert view["retained_until"] > view["finished_at"]


async def test_a_running_job_shows_its_progress(desk: Desk) -> None:
    job_id = await desk.submit()
    worker = desk.worker()
    job = worker.claim()
    assert (await desk.look(job_id))["progress"] is None
    await worker.say(job, (EventType.STARTED, {}), (EventType.PROGRESS, {"fraction": 0.5, "stage": "draw"}))
    view = await desk.look(job_id)
    assert view["progress"] == {"fraction": 0.5, "stage": "draw", "preview_url": None}
    assert view["queue"] is None


async def test_the_newest_preview_of_a_running_job_can_be_looked_at(desk: Desk) -> None:
    job_id = await desk.submit()
    worker = desk.worker()
    job = worker.claim()
    assert (await desk.client.get(f"/v1/jobs/{job_id}/preview")).status_code == 404
    pictures = [
        (EventType.PREVIEW, {"content_type": "image/jpeg", "base64": base64.b64encode(content).decode()})
        for content in (b"vague", b"clear")
    ]
    await worker.say(job, (EventType.STARTED, {}), *pictures)
    preview_url = (await desk.look(job_id))["progress"]["preview_url"]
    assert preview_url == f"http://stoker.test/v1/jobs/{job_id}/preview"
    shown = await desk.client.get(preview_url)
    assert (shown.content, shown.headers["content-type"], shown.headers["cache-control"]) == (
        *(b"clear", "image/jpeg"),
        "no-store",
    )
    stranger = await desk.client.get(preview_url, headers=desk.bearer("stranger"))
    assert stranger.status_code == 404
    await worker.finish(job, output={})
    gone = await desk.client.get(preview_url)
    assert (gone.status_code, "The job is succeeded and has no preview" in gone.text) == (404, True)


async def test_waiting_returns_when_the_job_ends(desk: Desk) -> None:
    job_id = await desk.submit()
    worker = desk.worker()
    waiting = asyncio.create_task(desk.client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "respond-async, wait=50"}))
    await worker.finish(worker.claim(), output={"text": "done"})
    answer = await waiting
    assert answer.json()["output"] == {"text": "done"}
    assert answer.headers["preference-applied"] == "wait=50"
    assert float(answer.headers["x-stoker-overhead-ms"]) < 50_000


async def test_a_submit_that_waits_answers_200_with_the_end(desk: Desk) -> None:
    worker = desk.worker()
    submitting = asyncio.create_task(desk.client.post("/v1/jobs", json=TEXT, headers={"Prefer": "wait=50"}))

    async def is_stored() -> bool:
        return desk.count_rows() == 1

    await eventually(is_stored)
    await worker.finish(worker.claim(), output={"text": "done"})
    answer = await submitting
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


async def test_a_wait_that_is_too_short_answers_with_what_there_is(desk: Desk) -> None:
    answer = await desk.client.post("/v1/jobs", json=TEXT, headers={"Prefer": "wait=0"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=0")
    job_id = answer.json()["id"]
    answer = await desk.client.get(f"/v1/jobs/{job_id}?wait=0.05")
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")


async def test_a_longer_wait_than_allowed_is_shortened(desk: Desk) -> None:
    job_id = await desk.submit()
    await desk.client.post(f"/v1/jobs/{job_id}/cancel")
    answer = await desk.client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=9999"})
    assert answer.headers["preference-applied"] == "wait=60"


async def test_what_has_not_changed_is_not_sent_again(desk: Desk) -> None:
    job_id = await desk.submit()
    address = f"/v1/jobs/{job_id}"
    tag = (await desk.client.get(address)).headers["etag"]
    same = await desk.client.get(address, headers={"If-None-Match": tag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    await desk.client.post(f"{address}/cancel")
    assert (await desk.client.get(address, headers={"If-None-Match": tag})).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST cancel", "POST retry", "DELETE", "GET events", "GET result"])
async def test_another_callers_job_is_not_there(desk: Desk, method: str) -> None:
    job_id = await desk.submit()
    verb, _, door = method.partition(" ")
    address = f"/v1/jobs/{job_id}/{door}".rstrip("/")
    answer = await desk.client.request(verb, address, headers=desk.bearer("stranger"))
    assert answer.status_code == 404
    assert (
        answer.json()["error"]["message"]
        == f"There is no job '{job_id}' of yours; GET /v1/jobs lists those there are."
    )
    assert (await desk.look(job_id))["status"] == "queued"


async def test_those_who_look_at_the_same_moment_see_only_their_own(desk: Desk) -> None:
    """They share one look at SQL."""
    mine, stranger = [await desk.submit() for _ in range(3)], desk.bearer("other")
    asked = [desk.client.get(f"/v1/jobs/{one}", headers=who) for one in mine for who in ({}, stranger)]
    answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [200, 404] * 3
    assert [answer.json()["id"] for answer in answers[::2]] == mine


async def test_lists_are_newest_first_and_come_in_pages(desk: Desk) -> None:
    ids = [await desk.submit() for _ in range(5)]
    first = await desk.client.get("/v1/jobs?limit=3")
    page = JobPage.model_validate_json(first.content)
    assert [job.id for job in page.data] == ids[:1:-1]
    assert page.has_more
    last = (await desk.client.get(f"/v1/jobs?limit=3&after={page.next_cursor}")).json()
    assert [job["id"] for job in last["data"]] == ids[1::-1]
    assert (last["has_more"], last["next_cursor"]) == (False, None)


async def test_lists_are_filtered(desk: Desk) -> None:
    text = await desk.submit(metadata={"run": "a b", "n": 1})
    image = await desk.submit(kind="image", model="sketch", input={"prompt": "x"})
    await desk.client.post(f"/v1/jobs/{image}/cancel")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for query, expected in {
        "status=queued": [text],
        "status=canceled&kind=image": [image],
        "model=sketch": [image],
        "queue=text.echo.cpu0": [text],
        "metadata[run]=a%20b": [text],
        "metadata[run]=b": [],
        "metadata[absent]=x": [],
        f"created_before={httpx.QueryParams(a=tomorrow)}".replace("a=", "", 1): [image, text],
        "created_after=2099-01-01T00:00:00Z": [],
    }.items():
        answer = await desk.client.get(f"/v1/jobs?{query}")
        assert [job["id"] for job in answer.json()["data"]] == expected, (query, answer.text)


async def test_an_admin_looks_at_another_callers_jobs_by_name_only(desk: Desk) -> None:
    stranger = desk.bearer("stranger", ("submit", "read"))
    theirs = (await desk.client.post("/v1/jobs", json=TEXT, headers=stranger)).json()["id"]
    assert (await desk.client.get("/v1/jobs")).json()["data"] == []
    listed = await desk.client.get("/v1/jobs?caller=stranger")
    assert [job["id"] for job in listed.json()["data"]] == [theirs]
    assert (await desk.client.get(f"/v1/jobs/{theirs}?caller=stranger")).status_code == 200
    for door in ("events", "result"):
        assert (await desk.client.get(f"/v1/jobs/{theirs}/{door}")).status_code == 404
    assert (await desk.client.get(f"/v1/jobs/{theirs}/result?caller=stranger")).status_code == 202
    canceled = await desk.client.post(f"/v1/jobs/{theirs}/cancel?caller=stranger")
    assert canceled.json()["status"] == "canceled"
    assert '"canceled"' in (await desk.client.get(f"/v1/jobs/{theirs}/events?caller=stranger")).text
    assert (await desk.client.delete(f"/v1/jobs/{theirs}?caller=stranger")).status_code == 204
    refused = await desk.client.get("/v1/jobs?caller=local", headers=stranger)
    assert refused.status_code == 403
    assert "Only a key with the scope 'admin' may name another caller" in refused.text
    assert (await desk.client.get("/v1/jobs?caller=nobody")).status_code == 404


async def test_a_queued_job_is_canceled_at_once_and_only_once(desk: Desk) -> None:
    job_id = await desk.submit()
    waiting = asyncio.create_task(desk.client.get(f"/v1/jobs/{job_id}?wait=50"))
    first = (await desk.client.post(f"/v1/jobs/{job_id}/cancel")).json()
    second = (await desk.client.post(f"/v1/jobs/{job_id}/cancel")).json()
    assert first["status"] == second["status"] == (await waiting).json()["status"] == "canceled"
    assert first["finished_at"] == second["finished_at"]


async def test_a_running_job_is_asked_to_stop(desk: Desk) -> None:
    job_id = await desk.submit()
    worker = desk.worker()
    worker.claim()
    view = (await desk.client.post(f"/v1/jobs/{job_id}/cancel")).json()
    assert (view["status"], view["cancel_requested"]) == ("running", True)
    assert desk.row(job_id).owner == worker.id


async def test_a_retry_is_a_new_job_of_the_same_kind(desk: Desk) -> None:
    policy = {"priority": "low", "ttl_seconds": 100, "timeout_seconds": 7, "max_attempts": 2}
    old = await desk.submit(policy=policy, metadata={"run": "a"}, retention_seconds=50)
    await desk.client.post(f"/v1/jobs/{old}/cancel")
    answer = await desk.client.post(f"/v1/jobs/{old}/retry")
    assert answer.status_code == 202
    new = answer.json()
    assert (new["retry_of"], new["status"], new["input"]["prompt"], new["metadata"]) == (
        old,
        "queued",
        "hello",
        {"run": "a"},
    )
    first, second = desk.row(old), desk.row(new["id"])
    for name in ("priority", "timeout_seconds", "max_attempts", "retention_seconds", "queue"):
        assert getattr(first, name) == getattr(second, name)
    assert second.expires_at - second.created_at == pytest.approx(100, abs=0.01)
    assert (await desk.look(old))["status"] == "canceled"


async def test_only_an_ended_job_is_retried_or_deleted(desk: Desk) -> None:
    job_id = await desk.submit()
    retried = await desk.client.post(f"/v1/jobs/{job_id}/retry")
    deleted = await desk.client.delete(f"/v1/jobs/{job_id}")
    assert retried.status_code == deleted.status_code == 409
    assert retried.json()["error"]["message"] == "The job is queued; cancel it or wait for its end, then retry it."
    assert desk.count_rows() == 1


async def test_an_erased_input_cannot_be_retried(desk: Desk) -> None:
    job_id = await desk.submit()
    await desk.client.post(f"/v1/jobs/{job_id}/cancel")
    desk.database.transact(lambda connection: retention.erase(connection, [job_id], hide=False))
    answer = await desk.client.post(f"/v1/jobs/{job_id}/retry")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gone")


async def test_a_large_input_lies_in_the_object_store_and_is_retried_from_there(desk: Desk) -> None:
    texts = ["x" * 1000] * 40
    old = await desk.submit(kind="embedding", model="twin", input={"texts": texts})
    assert json.loads(desk.objects.get(f"jobs/{old}/input.json"))["texts"] == texts
    assert "input" not in await desk.look(old)
    await desk.client.post(f"/v1/jobs/{old}/cancel")
    new = (await desk.client.post(f"/v1/jobs/{old}/retry")).json()["id"]
    await desk.client.delete(f"/v1/jobs/{old}")
    assert json.loads(desk.objects.get(f"jobs/{new}/input.json"))["texts"] == texts
    assert desk.objects.head(f"jobs/{old}/input.json") is None


async def test_a_deleted_job_leaves_nothing(desk: Desk) -> None:
    job_id = await desk.submit(metadata={"secret": "x"})
    worker = desk.worker()
    job = worker.claim()
    file = worker.store(job, "result.json", b"{}")
    await worker.say(job, (EventType.STARTED, {}))
    await worker.finish(job, output={"text": "secret"}, artifacts=[file])
    assert (await desk.client.delete(f"/v1/jobs/{job_id}")).status_code == 204
    assert (await desk.client.get(f"/v1/jobs/{job_id}")).status_code == 404
    assert (await desk.client.delete(f"/v1/jobs/{job_id}")).status_code == 404
    assert desk.objects.list(f"jobs/{job_id}/", None, 10) == []
    assert await desk.events.read(job_id, None) == []
    assert desk.database.read(lambda connection: jobs.find_input(connection, job_id)) is None
    assert (await desk.client.get("/v1/jobs")).json()["data"] == []


async def test_a_scheduled_job_waits_for_its_moment(desk: Desk) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    job_id = await desk.submit(policy={"run_at": later.isoformat(), "ttl_seconds": 60})
    view = await desk.look(job_id)
    assert (view["queue"]["reason"], view["queue"]["position"]) == ("scheduled", None)
    assert 3500 < view["queue"]["eta_seconds"] <= 3600
    assert desk.row(job_id).expires_at == pytest.approx(later.timestamp() + 60, abs=0.01)
    past = await desk.submit(policy={"run_at": "2020-01-01T00:00:00Z"})
    assert desk.row(past).run_at is None


async def test_a_failed_job_says_why(desk: Desk) -> None:
    job_id = await desk.submit()
    worker = desk.worker()
    error = {"type": "job_error", "code": "engine_error", "message": "It broke.", "retryable": True}
    await worker.finish(worker.claim(), Status.FAILED, error=error)
    assert (await desk.look(job_id))["error"] == error
