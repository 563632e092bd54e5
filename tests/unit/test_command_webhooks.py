"""`stoker webhooks` against a scripted API: what it sends and prints, and a listener that real requests reach."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from stoker.commands.parser import parse
from stoker.commands.run import run
from stoker.ports import free_port
from tasks.webhooks.signing import sign
from tests.scripted_api import Reply, ScriptedApi, error
from tests.unit.test_webhook_verification import BODY, OTHER, SECRET

Run = Callable[..., int]
ENDPOINT = {
    "id": "ep_1",
    "url": "https://hooks.example/",
    "events": ["job.failed"],
    "enabled": True,
    "disabled_reason": None,
    "failing_since": None,
}
DELIVERY = {
    "id": "msg_1",
    "event": "job.failed",
    "status": "exhausted",
    "attempts": 8,
    "occurred_at": "2026-11-21T10:00:00.000Z",
    "last_error": "It answered with status 500.",
}
ENDPOINTS, DELIVERIES = "/v1/webhooks/endpoints", "/v1/webhooks/deliveries"


@pytest.fixture
def stoker(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("STOKER_URL", api.url)
    monkeypatch.setenv("STOKER_API_KEY", "sk-test")
    monkeypatch.setattr("stoker.commands.run.FIRST_PATIENCE_SECONDS", 0)
    return lambda *words: run(parse(["webhooks", *words]), colour=False)


def test_endpoints_show_their_state(api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]) -> None:
    disabled = ENDPOINT | {"id": "ep_2", "enabled": False}
    api.on("GET", ENDPOINTS, Reply(200, {"data": [ENDPOINT, disabled, ENDPOINT | {"failing_since": "2026"}]}))
    assert stoker() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["STATE", "enabled", "disabled", "failing"]


def test_a_new_endpoint_prints_its_secret_alone(
    api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("POST", ENDPOINTS, Reply(201, ENDPOINT | {"secret": SECRET}))
    assert stoker("create", "https://hooks.example/", "--event", "job.failed", "--event", "job.expired") == 0
    [seen] = api.asked(ENDPOINTS)
    assert json.loads(seen.body) == {"url": "https://hooks.example/", "events": ["job.failed", "job.expired"]}
    assert capsys.readouterr().out == f"{SECRET}\n"


@pytest.mark.parametrize(
    ("words", "call", "body"),
    [
        (("enable", "ep_1"), f"PATCH {ENDPOINTS}/ep_1", {"enabled": True}),
        (("disable", "ep_1"), f"PATCH {ENDPOINTS}/ep_1", {"enabled": False}),
        (("test", "ep_1"), f"POST {ENDPOINTS}/ep_1/test", None),
        (("replay", "msg_1"), f"POST {DELIVERIES}/msg_1/replay", None),
        (("delete", "ep_1"), f"DELETE {ENDPOINTS}/ep_1", None),
    ],
)
def test_steering_asks_for_one_thing(
    api: ScriptedApi, stoker: Run, words: tuple[str, ...], call: str, body: Any
) -> None:
    method, path = call.split()
    api.on(method, path, Reply(200, ENDPOINT))
    assert stoker(*words) == 0
    [seen] = api.asked(path)
    assert (json.loads(seen.body) if seen.body else None) == body


def test_an_endpoint_gets_again_what_it_missed(
    api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("POST", f"{ENDPOINTS}/ep_1/replay", Reply(202, {"endpoint": "ep_1", "replayed": 3}))
    assert stoker("replay", "ep_1", "--since", "2026-11-20T00:00:00Z") == 0
    assert capsys.readouterr().out == "ep_1 gets 3 deliveries again.\n"


def test_the_log_is_shown_with_what_went_wrong(
    api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("GET", DELIVERIES, Reply(200, {"data": [DELIVERY]}))
    attempt = {"number": 1, "at": "2026", "status": 500, "latency_ms": 3.2, "error": "It answered with status 500."}
    api.on("GET", f"{DELIVERIES}/msg_1", Reply(200, DELIVERY | {"log": [attempt]}))
    assert stoker("deliveries", "--status", "exhausted") == 0
    assert stoker("delivery", "msg_1") == 0
    said = capsys.readouterr().out
    assert said.count("It answered with status 500.") == 2
    assert "3 ms" in said


def test_a_refusal_is_a_sentence_and_an_exit_code(
    api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("POST", ENDPOINTS, error(422, "url_refused", "The URL must begin with https://."))
    assert stoker("create", "ftp://x") == 1
    assert "must begin with https://" in capsys.readouterr().err


def test_the_listener_takes_what_is_genuine_and_refuses_the_rest(
    stoker: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    codes: list[int] = []
    words = ("listen", "--json", "--secret", SECRET, "--port", str(port), "--count", "2")
    listening = threading.Thread(target=lambda: codes.append(stoker(*words)))
    listening.start()
    statuses = [_post(port, secret) for secret in (OTHER, SECRET)]
    listening.join(60)
    assert (statuses, codes) == ([400, 200], [0])
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["type"] == "job.succeeded"
    assert "refused: No signature matches" in said.err


def _post(port: int, secret: str) -> int:
    headers = sign([secret], "msg_1", int(time.time()), BODY)
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", BODY, headers)
    for _ in range(1000):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            refused.close()
            return refused.code
        except urllib.error.URLError:
            time.sleep(0.01)
    raise TimeoutError


def test_a_job_can_be_submitted_with_a_webhook(api: ScriptedApi, stoker: Run) -> None:
    api.on("GET", "/v1/models/echo", Reply(200, {"id": "echo", "kind": "text", "description": "", "placements": []}))
    api.on("POST", "/v1/jobs", Reply(202, api.job()))
    assert run(parse(["submit", "echo", "hi", "--webhook", "https://hooks.example/", "--json"]), colour=False) == 0
    [seen] = api.asked("/v1/jobs")
    assert json.loads(seen.body)["webhook"] == {"url": "https://hooks.example/"}
