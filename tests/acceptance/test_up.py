"""`make up` as a user sees it: real parts, a first job by copy and paste, data that stays, nothing left behind."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.platform import CATALOG, PATIENCE_SECONDS, ROOT, Platform, wait_until_gone

ECHO = {"kind": "text", "model": "echo", "input": {"prompt": "Keep this."}}
SLOW = {"kind": "text", "model": "echo", "input": {"prompt": "fake:sleep-ms=3000"}}
WAIT = {"Prefer": "wait=50"}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose only model loads at once, for tests that start it again."""
    folder = tmp_path_factory.mktemp("small")
    echo, *_ = re.split(r"\n(?=\[models\.(?!echo))", CATALOG.read_text())
    (folder / "models.toml").write_text(echo)
    made = Platform(folder / ".stoker", folder / "models.toml")
    made.up()
    yield made
    made.call("down")


def first_curl(said: str) -> str:
    """The shell lines under the heading of the first job."""
    return said.partition("Your first job:\n")[2].partition("Not done yet?")[0]


def finished_job(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Submit a job and wait for its end."""
    answer = client.post("/v1/jobs", json=job, headers=WAIT)
    assert answer.status_code == 200, answer.text
    ended: dict[str, Any] = answer.json()
    assert ended["status"] == "succeeded", ended
    return ended


def test_every_model_of_the_catalog_answers(http: httpx.Client) -> None:
    assert http.get("/health/ready").json()["degraded"] == []
    assert {model["id"] for model in http.get("/v1/models").json()["data"]} == {"echo", "sketch", "minilm"}
    finished_job(http, ECHO)
    finished_job(http, {"kind": "image", "model": "sketch", "input": {"prompt": "a red circle"}})
    finished_job(http, {"kind": "embedding", "model": "minilm", "input": {"texts": ["Hello."]}})


def test_flower_shows_the_workers_to_those_with_its_password(platform: Platform) -> None:
    url = httpx.URL(platform.client["STOKER_FLOWER_URL"])
    assert httpx.get(url.copy_with(username=None, password=None).join("/api/workers")).status_code == 401
    wanted = {"text.echo.cpu0", "image.sketch.cpu0", "embedding.minilm.cpu0", "maintenance"}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while missing := wanted - _shown_queues(url):  # it leaves out who was too busy to answer
        assert time.monotonic() < deadline, missing
        time.sleep(0.2)


def _shown_queues(flower: httpx.URL) -> set[str]:
    workers = httpx.get(flower.join("/api/workers"), params={"refresh": "true"}, timeout=60).json()
    return {queue["name"] for worker in workers.values() for queue in worker.get("active_queues", ())}


def test_a_second_up_says_that_one_is_running(platform: Platform) -> None:
    answer = platform.call("up")
    assert answer.returncode == 1
    assert f"Stoker already runs in {platform.state.path}: {platform.run.url}" in answer.stdout
    assert platform.call("status").returncode == 0


def test_a_killed_worker_comes_back_and_its_job_ends(platform: Platform, http: httpx.Client) -> None:
    job = http.post("/v1/jobs", json=SLOW).json()
    while http.get(job["urls"]["get"]).json()["status"] == "queued":
        time.sleep(0.02)
    (worker,) = platform.part_processes("workers", "--model", "echo")
    worker.kill()
    ended = http.get(job["urls"]["get"], headers=WAIT).json()
    assert (ended["status"], ended["attempt"]) == ("succeeded", 2)


def test_the_first_job_works_by_copy_and_paste(platform: Platform) -> None:
    for name in platform.run.parts:
        assert f"{name} is ready" in platform.said
    shell = ["sh", "-euc", first_curl(platform.said)]
    answer = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(answer.stdout)["status"] == "succeeded"


def test_down_and_up_again_keep_jobs_results_and_the_key(small: Platform) -> None:
    with small.http() as client:
        job = finished_job(client, ECHO)
        result = client.get(job["urls"]["result"], follow_redirects=True).content
    key, everything = small.client["STOKER_API_KEY"], small.processes()
    assert small.call("down").returncode == 0
    wait_until_gone(everything)
    small.up()
    assert small.client["STOKER_API_KEY"] == key
    with small.http() as client:
        again = client.get(f"/v1/jobs/{job['id']}").json()
        assert again["output"] == job["output"]
        assert client.get(again["urls"]["result"], follow_redirects=True).content == result


def test_kill_9_leaves_nothing_and_the_next_start_finishes_the_job(small: Platform) -> None:
    with small.http() as client:
        job = client.post("/v1/jobs", json=SLOW).json()
    everything = small.processes()
    everything[0].kill()
    wait_until_gone(everything)
    small.up()
    with small.http() as client:
        ended = client.get(f"/v1/jobs/{job['id']}", headers=WAIT).json()
    assert ended["status"] == "succeeded"


def test_a_broken_catalog_stops_the_start_with_its_sentence(tmp_path: Path) -> None:
    catalog = tmp_path / "broken.toml"
    catalog.write_text('[models.echo]\nkind = "smell"\n')
    broken = Platform(tmp_path / ".stoker")
    broken.environment["STOKER_CATALOG"] = str(catalog)
    answer = broken.call("up", "--detach")
    assert answer.returncode == 1
    assert "models.echo" in answer.stdout
    assert str(catalog) in answer.stdout
