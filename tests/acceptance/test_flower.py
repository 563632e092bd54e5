"""Flower shows what really happened: one task per hint, in the state of the job that it claimed."""

import time
from typing import Any

import httpx

from tests.acceptance.platform import PATIENCE_SECONDS, Platform

WAIT = {"Prefer": "wait=30"}


def test_a_task_has_the_state_of_its_job(platform: Platform, http: httpx.Client) -> None:
    succeeded = _end(http, "Hello.")
    failed = _end(http, "fake:fail", max_attempts=1)
    retried = _end(http, "fake:fail-times=1")
    assert [job["status"] for job in (succeeded, failed, retried)] == ["succeeded", "failed", "succeeded"]

    flower = httpx.URL(platform.client["STOKER_FLOWER_URL"])
    wanted = {
        (succeeded["id"], "SUCCESS"),
        (failed["id"], "FAILURE"),
        (retried["id"], "RETRY"),
        (retried["id"], "SUCCESS"),
    }
    deadline = time.monotonic() + PATIENCE_SECONDS
    while missing := wanted - _shown(flower, {job for job, _ in wanted}):
        assert time.monotonic() < deadline, missing
        time.sleep(0.2)


def test_every_page_wants_the_password(platform: Platform) -> None:
    url = httpx.URL(platform.client["STOKER_FLOWER_URL"])
    for page in ("/", "/workers", "/tasks", "/broker", "/api/tasks"):
        assert httpx.get(url.copy_with(username=None, password=None).join(page)).status_code == 401, page
        assert httpx.get(url.join(page), follow_redirects=True).status_code == 200, page


def test_it_knows_every_queue_and_every_worker(platform: Platform, http: httpx.Client) -> None:
    flower = httpx.URL(platform.client["STOKER_FLOWER_URL"])
    queues = {queue["name"] for queue in http.get("/v1/queues").json()["data"]}
    shown = httpx.get(flower.join("/api/queues/length")).json()["active_queues"]
    assert {queue["name"] for queue in shown} == queues | {"webhooks", "maintenance"}

    places = {f"{worker['model']}@{worker['device']}" for worker in http.get("/v1/workers").json()["data"]}
    for name in places:
        page = httpx.get(flower.join(f"/worker/{name}"), timeout=PATIENCE_SECONDS)
        assert page.status_code == 200, (name, page.text)
        assert any(queue.endswith(name.replace("@", ".")) and queue in page.text for queue in queues), name


def _end(http: httpx.Client, prompt: str, **policy: Any) -> dict[str, Any]:
    job = {"kind": "text", "model": "echo", "input": {"prompt": prompt, "max_tokens": 4}, "policy": policy}
    ended: dict[str, Any] = http.post("/v1/jobs", json=job, headers=WAIT).json()
    return ended


def _shown(flower: httpx.URL, job_ids: set[str]) -> set[tuple[str, str]]:
    tasks = httpx.get(flower.join("/api/tasks"), params={"taskname": "jobs.run"}).json().values()
    return {
        (job_id, task["state"])
        for task in tasks
        for job_id in job_ids
        if job_id in f"{task['result']} {task['exception']}"
    }
