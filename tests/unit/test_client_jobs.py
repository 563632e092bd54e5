"""Jobs through both clients: waiting, lists, results, the links that the API gives, fields nobody knows yet."""

import hashlib
import inspect
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from stoker import AsyncStoker, Stoker, StokerError
from stoker.client import ApiError, ConflictError, DamagedError, Job, WaitTimeoutError
from stoker.client.errors import OF_STATUS
from tests.scripted_api import Reply, ScriptedApi, error

LINK = "/links/job_1"


def artifact(api: ScriptedApi, name: str, content: bytes) -> dict[str, Any]:
    api.on("GET", f"/store/{name}", Reply(200, content))
    digest = hashlib.sha256(content).hexdigest()
    return {"name": name, "url": f"{api.url}/store/{name}", "sha256": digest, "bytes": len(content)}


def done(api: ScriptedApi, *artifacts: dict[str, Any]) -> Job:
    ended = api.job(status="succeeded", artifacts=list(artifacts))
    api.on("GET", f"{LINK}/get", Reply(200, ended))
    return Job(ended)


def test_a_submit_says_what_it_was_told_and_nothing_else(api: ScriptedApi, client: Stoker) -> None:
    api.on("POST", "/v1/jobs", Reply(202, api.job()))
    client.submit("text", "echo", {"prompt": "hi"})
    client.submit("text", "echo", {}, policy={"priority": "high"}, metadata={"a": 1}, retention_seconds=60)
    first, second = (json.loads(seen.body) for seen in api.seen)
    assert first == {"kind": "text", "model": "echo", "input": {"prompt": "hi"}}
    assert second.items() >= {"policy": {"priority": "high"}, "metadata": {"a": 1}, "retention_seconds": 60}.items()


def test_waiting_asks_again_until_the_job_has_ended(api: ScriptedApi, client: Stoker) -> None:
    running, ended = api.job(status="running"), api.job(status="failed")
    api.on("GET", f"{LINK}/get", Reply(200, running), Reply(200, running), Reply(200, ended))
    assert client.wait(Job(running)).status == "failed"
    assert [seen.headers["prefer"] for seen in api.seen] == ["wait=30"] * 3


def test_waiting_ends_when_its_time_is_up_and_the_job_goes_on(api: ScriptedApi, client: Stoker) -> None:
    api.on("GET", "/v1/jobs/job_1", Reply(200, api.job(status="running")))
    with pytest.raises(WaitTimeoutError, match="still running") as caught:
        client.wait("job_1", 0)
    assert caught.value.job.id == "job_1"
    assert isinstance(caught.value, TimeoutError)
    assert "prefer" not in api.seen[0].headers


def test_a_job_is_reached_by_its_own_links(api: ScriptedApi, client: Stoker) -> None:
    job = Job(api.job())
    for method, verb in (("GET", "get"), ("POST", "cancel"), ("POST", "retry"), ("DELETE", "get")):
        api.on(method, f"{LINK}/{verb}", Reply(200, api.job()))
    client.get(job)
    client.cancel(job)
    client.retry(job)
    client.delete(job)
    paths = [(seen.method, seen.path) for seen in api.seen]
    assert paths == [
        ("GET", f"{LINK}/get"),
        ("POST", f"{LINK}/cancel"),
        ("POST", f"{LINK}/retry"),
        ("DELETE", f"{LINK}/get"),
    ]


def test_an_id_cannot_lead_elsewhere(api: ScriptedApi, client: Stoker) -> None:
    with pytest.raises(ApiError):
        client.get("../keys?x=")
    assert api.seen[0].path == "/v1/jobs/..%2Fkeys%3Fx%3D"


def test_a_list_is_read_page_by_page(api: ScriptedApi, client: Stoker) -> None:
    def page(first: int, size: int, cursor: str | None) -> Reply:
        data = [api.job(f"job_{number}") for number in range(first, first + size)]
        return Reply(200, {"data": data, "has_more": cursor is not None, "next_cursor": cursor})

    api.on("GET", "/v1/jobs", page(0, 100, "c1"), page(100, 100, "c2"), page(200, 7, None))
    assert [job.id for job in client.jobs()] == [f"job_{number}" for number in range(207)]
    assert [seen.query for seen in api.seen] == [
        {"limit": "100"},
        {"limit": "100", "after": "c1"},
        {"limit": "100", "after": "c2"},
    ]
    api.on("GET", "/v1/jobs", page(0, 100, "c1"), page(100, 20, "c2"))
    assert len(list(client.jobs(limit=120))) == 120
    assert [seen.query["limit"] for seen in api.seen[3:]] == ["100", "20"]


def test_a_list_is_filtered_by_the_api(api: ScriptedApi, client: Stoker) -> None:
    api.on("GET", "/v1/jobs", Reply(200, {"data": [], "has_more": False, "next_cursor": None}))
    since = datetime(2026, 11, 21, tzinfo=UTC)
    assert list(client.jobs(status="failed", created_after=since, metadata={"team": "a&b"})) == []
    assert api.seen[0].query == {
        "limit": "100",
        "status": "failed",
        "created_after": "2026-11-21T00:00:00+00:00",
        "metadata[team]": "a&b",
    }


def test_a_result_is_the_bytes_and_the_store_sees_no_key(api: ScriptedApi, client: Stoker) -> None:
    job = done(api, artifact(api, "result.json", b'{"text":"hi"}'))
    assert client.result(job) == b'{"text":"hi"}'
    assert "authorization" not in api.asked("/store/result.json")[0].headers


def test_one_of_several_artifacts_must_be_named(api: ScriptedApi, client: Stoker) -> None:
    job = done(api, artifact(api, "0.png", b"zero"), artifact(api, "1.png", b"one"))
    with pytest.raises(StokerError, match=r"several artifacts: 0\.png, 1\.png"):
        client.result(job)
    with pytest.raises(StokerError, match=r"no artifact '2\.png'; it has 0\.png, 1\.png"):
        client.result(job, artifact="2.png")
    assert client.result(job, artifact="1.png") == b"one"


def test_bytes_that_changed_on_the_way_are_refused(api: ScriptedApi, client: Stoker) -> None:
    job = done(api, artifact(api, "result.json", b"whole"))
    api.on("GET", "/store/result.json", Reply(200, b"half"))
    with pytest.raises(DamagedError, match=r"'result\.json' are not those that were stored"):
        client.result(job)


def test_a_job_without_artifacts_says_why_or_has_its_output(api: ScriptedApi, client: Stoker) -> None:
    job = done(api)
    api.on("GET", f"{LINK}/result", Reply(200, {"count": 1}))
    assert json.loads(client.result(job)) == {"count": 1}
    api.on("GET", f"{LINK}/result", error(409, "job_failed", "The job ended failed and has no result."))
    with pytest.raises(ConflictError, match="has no result"):
        client.result(job)


@pytest.mark.parametrize(("status", "kind"), OF_STATUS.items())
def test_an_error_is_what_the_wire_says(api: ScriptedApi, client: Stoker, status: int, kind: type[ApiError]) -> None:
    api.on("GET", "/v1/queues", error(status, "some_code", "Mend it.", Retry_After="3600"))
    with pytest.raises(kind) as caught:
        client.queues()
    told = caught.value
    assert (told.status, told.code, told.message, told.param, told.request_id) == (
        status,
        "some_code",
        "Mend it.",
        "input.n",
        "req_7",
    )


def test_an_error_in_another_shape_is_told_by_its_status(api: ScriptedApi, client: Stoker) -> None:
    api.on("GET", "/v1/queues", Reply(500, b"<html>oops", {"X-Request-Id": "req_9"}))
    with pytest.raises(ApiError, match="answered 500") as caught:
        client.queues()
    assert (caught.value.code, caught.value.request_id) == ("unknown", "req_9")


def test_fields_that_nobody_knows_yet_are_kept() -> None:
    job = Job({"id": "job_1", "created_at": "2026-11-21T10:00:00.5Z", "sparkle": {"a": 1}, "error": None})
    assert job.raw["sparkle"] == job["sparkle"] == {"a": 1}
    assert job.created_at == datetime(2026, 11, 21, 10, 0, 0, 500_000, tzinfo=UTC)
    assert job.finished_at is None
    assert job.artifacts == []
    assert repr(job) == "Job(id='job_1')"
    assert job == Job(dict(job.raw))


def test_both_clients_can_do_the_same() -> None:
    def shape(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(it).parameters) for name, it in methods if not name.startswith("_")}

    assert shape(Stoker) == shape(AsyncStoker)
