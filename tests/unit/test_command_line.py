"""The command line against a scripted API: what it sends, what it prints, how it ends."""

import hashlib
import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from stoker.commands.parser import parse
from stoker.commands.run import run
from stoker.ports import free_port
from tests.scripted_api import Reply, ScriptedApi, error, frame

Run = Callable[..., int]
MODEL = {"id": "echo", "kind": "text", "description": "Says it again.", "placements": []}


@pytest.fixture
def stoker(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; the exit code."""
    monkeypatch.setenv("STOKER_URL", api.url)
    monkeypatch.setenv("STOKER_API_KEY", "sk-test")
    monkeypatch.setattr("stoker.commands.run.FIRST_PATIENCE_SECONDS", 0)
    for kind in ("text", "image", "embedding", "batch"):
        api.on("GET", f"/v1/models/{kind}", Reply(200, {**MODEL, "kind": kind}))

    def run_it(*words: str, stdin: bytes = b"") -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            return run(parse(words), colour=False)
        except SystemExit as end:
            return int(end.code or 0)

    return run_it


def submitted(api: ScriptedApi) -> dict[str, Any]:
    (seen,) = api.asked("/v1/jobs")
    body: dict[str, Any] = json.loads(seen.body)
    return body


def said(text: str) -> dict[str, Any]:
    """The input of a conversation with one turn."""
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize(
    ("words", "stdin", "expected"),
    [
        (("text", "say", "hi"), b"", said("say hi")),
        (("image", "a house"), b"", {"prompt": "a house"}),
        (("embedding", "one", "two"), b"", {"texts": ["one", "two"]}),
        (("text",), "한글\nzwei\n".encode(), said("한글\nzwei")),
        (("embedding",), b"one\n\ntwo\n", {"texts": ["one", "two"]}),
        (("text", "hi", "--input", '{"max_tokens": 3}'), b"", {"max_tokens": 3, **said("hi")}),
        (("text", "hi", "--adapter", "pirate"), b"", {"adapter": "pirate", **said("hi")}),
        (("image", "x", "--seed", "7", "-n", "4"), b"", {"prompt": "x", "seed": 7, "n": 4}),
        (
            ("image", "x", "--adapter", "night:0.5", "--adapter", "gold"),
            b"",
            {"prompt": "x", "adapters": [{"id": "night", "strength": 0.5}, {"id": "gold"}]},
        ),
        (("text", "--priority", "low", "say", "--ttl", "60", "hi"), b"", said("say hi")),
        (("text", "--", "--hi"), b"", said("--hi")),
        (("batch", "--input", '{"inputs": []}'), b"", {"inputs": []}),
        (("text", "--input", "@-"), b'{"prompt": "in"}', {"prompt": "in"}),
    ],
)
def test_input_comes_from_words_stdin_or_json(
    api: ScriptedApi, stoker: Run, words: tuple[str, ...], stdin: bytes, expected: Mapping[str, Any]
) -> None:
    api.on("POST", "/v1/jobs", Reply(202, api.job()))
    assert stoker("submit", *words, stdin=stdin) == 0
    told = submitted(api)
    assert (told["kind"], told["model"], told["input"]) == (words[0], words[0], expected)


def test_a_model_with_its_adapter_is_named_as_it_is_listed(api: ScriptedApi, stoker: Run) -> None:
    api.on("GET", "/v1/models/chat%3Apirate", Reply(200, {**MODEL, "id": "chat:pirate", "base_model": "chat"}))
    api.on("POST", "/v1/jobs", Reply(202, api.job()))
    assert stoker("submit", "chat:pirate", "hi") == 0
    told = submitted(api)
    assert (told["kind"], told["model"], told["input"]["adapter"]) == ("text", "chat", "pirate")


def test_input_comes_from_a_file(api: ScriptedApi, stoker: Run, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('{"prompt": "from a file"}')
    api.on("POST", "/v1/jobs", Reply(202, api.job()))
    assert stoker("submit", "text", "--input", f"@{tmp_path}/in.json") == 0
    assert submitted(api)["input"] == {"prompt": "from a file"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("text", "hi", "--input", '{"prompt": "ho"}'), "has 'prompt' already"),
        (("text", "--input", "{"), "--input is not valid JSON"),
        (("text", "--input", '{"seed": NaN}'), "NaN is no number"),
        (("text", "--input", '{"prompt": "\\ud800"}'), "--input is not valid JSON"),
        (("text", "--input", "[1]"), "must be a JSON object"),
        (("text", "--input", "@no-such-file"), "no-such-file cannot be read"),
        (("batch", "hi"), "takes no plain text"),
        (("text", "hi", "--ttl", "soon"), "'soon' is not a number of seconds"),
        (("text", "hi", "--ttl", "nan"), "'nan' is not a number of seconds"),
        (("text", "hi", "--run-at", "later"), "'later' is not a time"),
        (("text", "hi", "--metadata", "novalue"), "must look like key=value"),
        (("text", "hi", "--idempotency-key", "ü"), "printable ASCII"),
        (("text", "hi", "--adapter", "pirate:0.5"), "Only images mix adapters or take them in part"),
        (("text", "hi", "--adapter", "a", "--adapter", "b"), "Only images mix adapters"),
        (("image", "x", "--adapter", "night:nan"), "must look like NAME:0.5"),
        (("image", "x", "--adapter", ":1"), "must look like NAME or NAME:STRENGTH"),
        (("image", "x", "--seed", "many"), "invalid int value"),
        (("text", "hi", "--hurry"), "unrecognized arguments: --hurry"),
        (("text", "hi", "--priority", "top"), "invalid choice"),
    ],
)
def test_what_is_typed_wrong_is_a_sentence_and_no_job(
    api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    assert stoker("submit", *words) == 2
    assert sentence in capsys.readouterr().err
    assert api.asked("/v1/jobs") == []


@pytest.mark.parametrize(("stdin", "sentence"), [(b"", "is empty"), (b"\n", "is empty"), (b"\xff", "is not UTF-8")])
def test_standard_input_that_is_no_text_is_a_sentence_and_no_job(
    api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str], stdin: bytes, sentence: str
) -> None:
    assert stoker("submit", "text", stdin=stdin) == 2
    assert f"Standard input {sentence}" in capsys.readouterr().err
    assert api.asked("/v1/jobs") == []


def test_options_become_fields(api: ScriptedApi, stoker: Run) -> None:
    api.on("POST", "/v1/jobs", Reply(202, api.job()))
    words = "submit text hi --priority high --ttl 60 --run-at 2030-01-01T00:00:00+00:00 --retention 5 --metadata a=b=c"
    assert stoker(*words.split(), "--metadata", "d=", "--idempotency-key", "once") == 0
    told = submitted(api)
    assert told["policy"] == {"priority": "high", "ttl_seconds": 60, "run_at": told["policy"]["run_at"]}
    assert (told["metadata"], told["retention_seconds"]) == ({"a": "b=c", "d": ""}, 5)
    assert api.asked("/v1/jobs")[0].headers["idempotency-key"] == "once"


def test_a_script_gets_the_bare_id_or_json(api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("POST", "/v1/jobs", Reply(202, api.job("job_7")))
    stoker("submit", "text", "hi")
    assert capsys.readouterr().out == "job_7\n"
    stoker("submit", "text", "hi", "--json")
    assert json.loads(capsys.readouterr().out) == api.job("job_7")


def test_a_failed_job_is_exit_code_1_and_a_sentence(
    api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = {"code": "engine_refused", "message": "It cannot be run."}
    api.on("POST", "/v1/jobs", Reply(202, api.job()))
    api.on("GET", "/links/job_1/get", Reply(200, api.job(status="failed", error=failure)))
    assert stoker("submit", "text", "hi", "--wait") == 1
    assert capsys.readouterr().err == "job_1 failed: It cannot be run. (engine_refused)\n"


def test_the_api_refuses_in_its_own_words(api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", "/v1/models/gone", error(404, "model_not_found", "There is no model 'gone'. Known models: echo."))
    assert stoker("submit", "gone", "hi") == 1
    assert capsys.readouterr().err == "There is no model 'gone'. Known models: echo.\n"
    api.on("GET", "/v1/models", error(401, "unauthenticated", "This API key is unknown."))
    assert stoker("models") == 1
    assert "STOKER_API_KEY" in capsys.readouterr().err
    api.on("GET", "/v1/models", error(500, "internal_error", "Report the request id."))
    assert stoker("models") == 1
    assert capsys.readouterr().err == "Report the request id. (request req_7)\n"


def test_a_key_that_may_only_submit_is_told_about_kind(
    api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("GET", "/v1/models/text", error(403, "forbidden", "This API key lacks the scope 'read'."))
    api.on("POST", "/v1/jobs", Reply(202, api.job()))
    assert stoker("submit", "text", "hi") == 2
    assert "--kind" in capsys.readouterr().err
    assert stoker("submit", "text", "hi", "--kind", "text") == 0


def test_an_error_cannot_steer_the_terminal(api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", "/v1/models", error(400, "malformed", "There is no \033[2Jsuch thing."))
    assert stoker("models") == 1
    assert capsys.readouterr().err == "There is no [2Jsuch thing.\n"


def test_when_nothing_runs_the_sentence_says_how_to_start_it(
    stoker: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("STOKER_URL", url)
    assert stoker("jobs") == 1
    assert capsys.readouterr().err.startswith(f"The API at {url} does not answer; start it with `make up`")


def test_a_list_is_a_table_or_json(api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]) -> None:
    job = api.job(status="succeeded", metrics={"queue_ms": 12.3, "run_ms": 2500}, created_at="2026-11-21T10:00:00Z")
    api.on("GET", "/v1/jobs", Reply(200, {"data": [job], "has_more": False, "next_cursor": None}))
    assert stoker("jobs", "--status", "succeeded", "--metadata", "a=b", "--limit", "5") == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["JOB", "STATUS", "AGE", "WAITED", "RAN", "MODEL"]
    assert row.split()[:2] == ["job_1", "succeeded"]
    assert "12 ms" in row
    assert "2.5 s" in row
    assert api.seen[0].query == {"status": "succeeded", "metadata[a]": "b", "limit": "5"}
    assert stoker("jobs", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [job]
    assert stoker("jobs", "--limit", "0") == 2


def test_an_empty_list_is_a_sentence_and_no_output(
    api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("GET", "/v1/jobs", Reply(200, {"data": [], "has_more": False, "next_cursor": None}))
    assert stoker("jobs") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "stoker submit" in said.err


def test_watching_in_a_script_prints_the_end_or_every_event(
    api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    job = api.job(status="succeeded", output={"text": "Hello."})
    api.on("GET", "/v1/jobs/job_1", Reply(200, job))
    api.on("GET", "/links/job_1/get", Reply(200, job))
    events = frame(1, 1, "started") + frame(1, 2, "token", text="Hello.") + frame(1, 3, "finished", status="succeeded")
    api.on("GET", "/links/job_1/events", Reply(200, events))
    assert stoker("watch", "job_1") == 0
    assert capsys.readouterr().out == "Hello.\n"
    assert stoker("watch", "job_1", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["id"], line["type"]) for line in lines] == [
        ("1-1", "started"),
        ("1-2", "token"),
        ("1-3", "finished"),
    ]


@pytest.mark.parametrize(
    ("paused", "workers", "shown"),
    [
        (False, [], "no_worker"),
        (False, ["loading"], "loading"),
        (False, ["loading", "ready"], "ready"),
        (True, ["ready"], "paused"),
    ],
)
def test_a_queue_is_ready_when_a_worker_is(
    api: ScriptedApi,
    stoker: Run,
    capsys: pytest.CaptureFixture[str],
    *,
    paused: bool,
    workers: list[str],
    shown: str,
) -> None:
    served = [{"id": f"worker_{state}", "state": state} for state in workers]
    queue = {"name": "text.echo.cpu0", "paused": paused, "depth": {}, "wait_ms": {}, "workers": served}
    api.on("GET", "/v1/queues", Reply(200, {"object": "list", "data": [queue]}))
    assert stoker("queues") == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["text.echo.cpu0", shown]


def test_queues_are_steered_by_name(api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]) -> None:
    at, queue = "/v1/queues/text.echo.cpu0", {"name": "text.echo.cpu0", "paused": True, "depth": {"queued": 3}}
    api.on("POST", f"{at}/pause", Reply(200, queue))
    api.on("POST", f"{at}/purge", Reply(200, {"name": "text.echo.cpu0", "canceled": 3}))
    api.on("POST", f"{at}/drain", Reply(200, {"name": "text.echo.cpu0", "moved_to": None, "moved": 0}))
    for action in ("pause", "purge", "drain"):
        assert stoker("queues", action, "text.echo.cpu0") == 0
    paused, purged, drained = capsys.readouterr().out.splitlines()
    assert paused == "text.echo.cpu0 is paused; 3 jobs wait in it."
    assert purged == "text.echo.cpu0 is purged: 3 waiting jobs were canceled."
    assert "no other placement of its model has a worker" in drained


def test_a_new_keys_secret_is_all_that_is_on_standard_output(
    api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("POST", "/v1/keys", Reply(201, {"id": "key_1", "key": "sk-secret", "scopes": ["read"]}))
    assert stoker("keys", "create", "nightly", "--scope", "read", "--days", "3") == 0
    said = capsys.readouterr()
    assert said.out == "sk-secret\n"
    assert "shown this once" in said.err
    assert json.loads(api.seen[0].body) == {"name": "nightly", "scopes": ["read"], "expires_in_days": 3}


def test_the_demo_fails_when_a_job_does(api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", "/v1/models", Reply(200, {"data": [MODEL, {**MODEL, "id": "unknown", "kind": "smell"}]}))
    api.on("POST", "/v1/jobs", Reply(202, api.job()))
    api.on("GET", "/links/job_1/events", Reply(200, frame(1, 1, "finished", status="failed")))
    api.on("GET", "/links/job_1/get", Reply(200, api.job(status="failed")))
    assert stoker("demo") == 1
    assert "0 of 1 jobs succeeded" in capsys.readouterr().out
    api.on("GET", "/v1/models", Reply(200, {"data": []}))
    assert stoker("demo") == 1
    assert "no model that the demo knows" in capsys.readouterr().err


PIXELS = b"pixels of "


def drawn(api: ScriptedApi, job_id: str, *names: str, **changes: Any) -> dict[str, Any]:
    """An image job that has ended, whose pictures can be downloaded."""
    artifacts = []
    for index, name in enumerate(names):
        content = PIXELS + name.encode()
        api.on("GET", f"/objects/{job_id}/{index}", Reply(200, content))
        sha256 = hashlib.sha256(content).hexdigest()
        url = f"{api.url}/objects/{job_id}/{index}"
        artifacts.append({"name": name, "url": url, "content_type": "image/png", "bytes": 9, "sha256": sha256})
    return api.job(job_id, "succeeded", kind="image", artifacts=artifacts, **changes)


def test_output_waits_and_saves_everything_in_a_new_folder(api: ScriptedApi, stoker: Run, tmp_path: Path) -> None:
    api.on("POST", "/v1/jobs", Reply(202, api.job()))
    api.on("GET", "/links/job_1/get", Reply(200, drawn(api, "job_1", "image-0.png", "../image-1.png")))
    folder = tmp_path / "a" / "b"
    assert stoker("submit", "image", "x", "--output", str(folder)) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "image-0.png": b"pixels of image-0.png",
        "image-1.png": b"pixels of ../image-1.png",
    }


def test_a_folder_that_cannot_be_made_is_a_sentence(
    api: ScriptedApi, stoker: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("POST", "/v1/jobs", Reply(202, api.job()))
    (tmp_path / "file").write_text("")
    assert stoker("submit", "image", "x", "-o", str(tmp_path / "file" / "in")) == 2
    assert "cannot be made: Not a directory" in capsys.readouterr().err
    assert api.asked("/v1/jobs") == []
