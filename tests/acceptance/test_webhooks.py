"""docs/webhooks.md, run as a reader would, and what it promises: nothing is missed, whoever restarts."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from stoker.ports import free_port
from stoker.webhooks import verify
from tests.acceptance.platform import ROOT, Platform
from tests.receiver import Received, receiving, wait_for

PAGE = (ROOT / "docs" / "webhooks.md").read_text()
BLOCKS = re.compile(r"```(\w+) (run|check)\n(.*?)```", re.DOTALL)
EXAMPLES = BLOCKS.findall(PAGE)
JOB: dict[str, Any] = {"kind": "text", "model": "echo", "input": {"prompt": "Hello, webhook!"}}
PATIENCE_SECONDS = 60
NPM = "standardwebhooks@1.1.1"


def environment_of(platform: Platform, **more: str) -> dict[str, str]:
    path = f"{ROOT / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return platform.environment | platform.client | {"PATH": path, "PYTHONPATH": str(ROOT)} | more


def shell(script: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["sh", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def secret_of(http: httpx.Client) -> str:
    return str(http.get("/v1/webhooks/secret").json()["secret"])


def test_the_page_has_its_examples() -> None:
    assert [language for language, _, _ in EXAMPLES] == ["sh", "python", "js", "sh", "sh"]
    assert PAGE.count("```") == 2 * len(EXAMPLES), "an example that is not run is not true for long"


def test_the_first_webhook_arrives_as_written(demo: Platform, tmp_path: Path) -> None:
    first, log = EXAMPLES[0][2], EXAMPLES[4][2]
    said = shell(first.replace("8791", str(free_port())), tmp_path, environment_of(demo))
    event = json.loads(said.splitlines()[-1])
    assert (event["type"], event["data"]["status"]) == ("job.succeeded", "succeeded")
    assert '"event": "job.succeeded"' in shell(log, tmp_path, environment_of(demo))


@contextmanager
def example(command: list[str], environment: dict[str, str], port: int) -> Iterator[subprocess.Popen[str]]:
    """An example receiver, once it listens."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                httpx.post(f"http://127.0.0.1:{port}/", content=b"{}", timeout=5)
                break
            except httpx.TransportError:
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("language", ["python", "js"])
def test_the_example_receivers_take_ours_and_refuse_others(
    platform: Platform, http: httpx.Client, language: str
) -> None:
    if language == "js" and shutil.which("node") is None:
        pytest.skip("there is no node on the PATH to run the example with")
    [code] = [code for one, _, code in EXAMPLES if one == language]
    port = free_port()
    environment = environment_of(platform, PORT=str(port), WEBHOOK_SECRET=secret_of(http))
    command = [sys.executable, "-c", code] if language == "python" else ["node", "-e", code]
    with example(command, environment, port) as process:
        forged = httpx.post(f"http://127.0.0.1:{port}/", content=b"{}", headers={"webhook-id": "msg_1"})
        assert forged.status_code == 400
        url = f"http://127.0.0.1:{port}/"
        job_id = http.post("/v1/jobs", json={**JOB, "webhook": {"url": url}}).json()["id"]
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["job.succeeded", job_id]


def receive_one(http: httpx.Client) -> Received:
    with receiving() as receiver:
        http.post("/v1/jobs", json={**JOB, "webhook": {"url": receiver.url}})
        [received] = wait_for(receiver, 1)
    return received


def test_the_shell_tells_genuine_from_forged(platform: Platform, http: httpx.Client, tmp_path: Path) -> None:
    received = receive_one(http)
    (tmp_path / "body.json").write_bytes(received.body)
    names = {"ID": "webhook-id", "AT": "webhook-timestamp", "SIGNATURE": "webhook-signature"}
    headers = {name: received.headers[header] for name, header in names.items()}
    environment = environment_of(platform, WEBHOOK_SECRET=secret_of(http), **headers)
    assert shell(EXAMPLES[3][2], tmp_path, environment) == "genuine\n"
    (tmp_path / "body.json").write_bytes(received.body + b" ")
    forged = subprocess.run(["sh", "-c", EXAMPLES[3][2]], cwd=tmp_path, env=environment, check=False)
    assert forged.returncode == 1


def test_the_official_npm_library_takes_our_delivery(http: httpx.Client, tmp_path: Path) -> None:
    installed = subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(tmp_path), NPM],
        capture_output=True, text=True, timeout=120, check=False,
    ) if shutil.which("npm") else None  # fmt: skip
    if installed is None or installed.returncode != 0:
        pytest.skip(f"npm cannot install {NPM} here: {installed.stderr[:200] if installed else 'there is no npm'}")
    received = receive_one(http)
    script = (
        "const { Webhook } = require('standardwebhooks');"
        "const [secret, headers, body] = JSON.parse(process.argv[1]);"
        "console.log(new Webhook(secret).verify(body, headers).type);"
    )
    given = json.dumps([secret_of(http), received.headers, received.body.decode()])
    done = subprocess.run(
        ["node", "-e", script, given], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "job.succeeded\n"), done.stderr


def first_failure(http: httpx.Client, job_id: str) -> dict[str, Any]:
    """The delivery of a job's end, once its first attempt has failed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        log: list[dict[str, Any]] = http.get("/v1/webhooks/deliveries", params={"job": job_id}).json()["data"]
        if log and log[0]["attempts"]:
            return log[0]
        time.sleep(0.05)
    raise TimeoutError(job_id)


def test_a_missed_event_arrives_by_itself_and_a_replay_brings_it_again(http: httpx.Client) -> None:
    """A receiver is up, verifies, dies, comes back: nothing is lost and the id stays."""
    with receiving() as receiver:
        http.post("/v1/jobs", json={**JOB, "webhook": {"url": receiver.url}})
        [first] = wait_for(receiver, 1)
    Webhook(secret_of(http)).verify(first.body, first.headers)
    missed = http.post("/v1/jobs?wait=30", json={**JOB, "webhook": {"url": receiver.url}}).json()["id"]
    log = first_failure(http, missed)
    assert log["last_error"].startswith("The connection failed")
    with receiving(receiver):
        _, second = wait_for(receiver, 2)
        event = verify(second.body, second.headers, secret_of(http))
        assert (event["type"], event["data"]["id"]) == ("job.succeeded", missed)
        replayed = http.post(f"/v1/webhooks/deliveries/{log['id']}/replay")
        assert replayed.status_code == 202
        *_, third = wait_for(receiver, 3)
    assert {second.headers["webhook-id"], third.headers["webhook-id"]} == {log["id"]}
