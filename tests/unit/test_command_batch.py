"""`stoker batch`, and batches of both clients, against a scripted API: what is sent, written and printed."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stoker import Stoker, StokerError
from stoker.client import Batch, BatchTimeoutError, ServiceError
from stoker.commands.batch_progress import Pace, progress_of, summary_of
from stoker.commands.parser import parse
from stoker.commands.run import run
from tests.scripted_api import CUT, Reply, ScriptedApi, error

Run = Callable[..., int]
CHAT = "/v1/chat/completions"
LINE = json.dumps({"custom_id": "a", "method": "POST", "url": CHAT, "body": {}})
AT = "/v1/batches/batch_1"
ANSWERS = b'{"custom_id":"a"}\n'
FLAW = {"code": "invalid_json_line", "line": 3000, "message": "The line is not valid JSON.", "param": None}


def batch(status: str = "in_progress", **changes: Any) -> dict[str, Any]:
    """A batch as the API would show it."""
    counts = {name: changes.pop(name, 0) for name in ("total", "completed", "failed")}
    return {
        "id": "batch_1",
        "object": "batch",
        "endpoint": CHAT,
        "status": status,
        "paused": False,
        "completion_window": "24h",
        "created_at": 1_000_000,
        "expires_at": 1_086_400,
        "output_file_id": None,
        "error_file_id": None,
        "errors": None,
        "request_counts": counts,
        "usage": {"total_tokens": 0},
        "metadata": None,
    } | changes


DONE = batch("completed", total=1200, completed=1198, failed=2, output_file_id="file_o", completed_at=1_000_060)


@pytest.fixture
def stoker(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command in this process, in an empty folder; the exit code."""
    monkeypatch.setenv("STOKER_URL", api.url)
    monkeypatch.setenv("STOKER_API_KEY", "sk-test")
    monkeypatch.setattr("stoker.commands.run.FIRST_PATIENCE_SECONDS", 0)
    monkeypatch.setattr("stoker.client.batch_api.LOOK_SECONDS", 0.001)
    monkeypatch.chdir(tmp_path)

    def run_it(*words: str) -> int:
        try:
            return run(parse(["batch", *words]), colour=False)
        except SystemExit as end:
            return int(end.code or 0)

    return run_it


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of requests."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(f"\n{LINE}\n")
    return path


def accept(api: ScriptedApi, made: dict[str, Any] | None = None) -> None:
    """Take an upload, and make a batch of it."""
    api.on("POST", "/v1/files", Reply(200, {"id": "file_1"}))
    api.on("POST", "/v1/batches", Reply(200, made or batch("validating")))


def test_a_file_is_uploaded_and_becomes_a_batch(
    api: ScriptedApi, stoker: Run, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accept(api)
    assert stoker("run", str(file), "--window", "2h", "--metadata", "a=b", "--webhook", "https://x.example/") == 0
    assert capsys.readouterr().out == "batch_1\n"
    uploaded, made = api.seen
    assert uploaded.headers["content-type"].startswith("multipart/form-data")
    assert b'name="purpose"\r\n\r\nbatch\r\n' in uploaded.body
    assert b'filename="prompts.jsonl"' in uploaded.body
    assert f"\r\n\r\n\n{LINE}\n\r\n".encode() in uploaded.body
    assert json.loads(made.body) == {
        "endpoint": CHAT,
        "input_file_id": "file_1",
        "completion_window": "2h",
        "metadata": {"a": "b"},
        "webhook": {"url": "https://x.example/"},
    }
    assert made.headers["idempotency-key"]


def test_waiting_prints_counts_and_where_the_answers_are(
    api: ScriptedApi, stoker: Run, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accept(api)
    api.on(
        "GET",
        AT,
        Reply(200, batch("validating")),
        Reply(200, batch(total=1200)),
        Reply(200, DONE | {"error_file_id": "file_e"}),
    )
    api.on("GET", f"{AT}/output", Reply(200, ANSWERS))
    api.on("GET", f"{AT}/errors", Reply(200, b"{}\n"))
    assert stoker("run", str(file), "--wait") == 1
    output, errors = file.with_name("prompts.output.jsonl"), file.with_name("prompts.errors.jsonl")
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "batch_1 completed, 1,198 of 1,200 done, 2 failed, in 1 min, 20 lines/s",
        f"  output: {output}",
        f"  errors: {errors}",
    ]
    assert (output.read_bytes(), errors.read_bytes()) == (ANSWERS, b"{}\n")
    assert sorted(one.name for one in file.parent.iterdir()) == [errors.name, file.name, output.name]


@pytest.mark.parametrize("given", [("output",), ("errors",), ()])
def test_nothing_of_an_earlier_run_stays_beside_what_a_new_one_gave(
    api: ScriptedApi, stoker: Run, file: Path, given: tuple[str, ...]
) -> None:
    accept(api)
    ids = {"output_file_id": "file_x" * ("output" in given), "error_file_id": "file_x" * ("errors" in given)}
    api.on("GET", AT, Reply(200, DONE | {name: file_id or None for name, file_id in ids.items()}))
    for name in given:
        api.on("GET", f"{AT}/{name}", Reply(200, ANSWERS))
    old = {name: file.with_name(f"prompts.{name}.jsonl") for name in ("output", "errors")}
    for path in old.values():
        path.write_text("old")
    stoker("run", str(file), "--wait")
    kept = {name: path.read_bytes() for name, path in old.items() if path.exists()}
    assert kept == (dict.fromkeys(given, ANSWERS) or dict.fromkeys(old, b"old"))


def test_requests_are_not_where_the_failed_lines_would_go(
    api: ScriptedApi, stoker: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "day.errors.jsonl"
    again.write_text(LINE)
    assert stoker("run", str(again), "--wait", "-o", "day.output.jsonl") == 2
    assert "would take the place of the requests in day.errors.jsonl" in capsys.readouterr().err
    assert (again.read_text(), api.seen) == (LINE, [])


def test_a_batch_is_waited_for_again_by_its_id(
    api: ScriptedApi, stoker: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = DONE | {"request_counts": {"total": 1, "completed": 1, "failed": 0}}
    api.on("GET", AT, Reply(200, done))
    api.on("GET", f"{AT}/output", Reply(200, ANSWERS))
    assert stoker("wait", "batch_1", "-o", "mine.jsonl", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {**done, "output_path": "mine.jsonl"}
    assert (tmp_path / "mine.jsonl").read_bytes() == ANSWERS


def test_errors_are_not_left_beside_a_pipe_or_a_device(
    api: ScriptedApi, stoker: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "devices"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    reader = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    api.on("GET", AT, Reply(200, DONE | {"error_file_id": "file_e"}))
    api.on("GET", f"{AT}/output", Reply(200, ANSWERS))
    api.on("GET", f"{AT}/errors", Reply(200, b"{}\n"))
    try:
        assert stoker("wait", "batch_1", "--output", "devices/pipe") == 1
    finally:
        os.close(reader)
    assert capsys.readouterr().out.splitlines()[1:] == ["  output: devices/pipe", "  errors: batch_1.errors.jsonl"]
    assert [one.name for one in folder.iterdir()] == ["pipe"]


def test_a_file_that_cannot_be_a_batch_is_told_line_by_line(
    api: ScriptedApi, stoker: Run, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accept(api)
    flaws = [FLAW, {**FLAW, "line": None, "message": "Too many lines."}, *[FLAW] * 20]
    api.on("GET", AT, Reply(200, batch("failed", failed_at=1_000_001, errors={"data": flaws})))
    assert stoker("run", str(file), "--wait") == 1
    told = capsys.readouterr()
    assert told.out == "batch_1 failed, in 1 s\n"
    lines = told.err.splitlines()
    assert lines[:2] == ["  line 3,000: The line is not valid JSON.", "  Too many lines."]
    assert lines[-1] == "  and 12 more: stoker batch get batch_1 --json"


def test_whoever_stops_waiting_is_told_how_to_go_on(
    api: ScriptedApi, stoker: Run, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(api)
    api.on("GET", AT, Reply(200, batch(total=2)))

    def press(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stoker.client.batches.time.sleep", lambda seconds: press(seconds) if seconds else None)
    assert stoker("run", str(file), "--wait") == 130
    told = capsys.readouterr().err
    assert "batch_1 goes on" in told
    assert "stoker batch wait batch_1" in told
    assert not [one for one in api.seen if one.path.endswith("cancel")]


@pytest.mark.parametrize("content", [b"not json\n", b"[1]\n", b'{"url": 7}\n', b"\xff\n"])
def test_a_file_that_asks_for_nothing_is_not_sent(
    api: ScriptedApi, stoker: Run, file: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    file.write_bytes(content)
    assert stoker("run", str(file)) == 1
    assert "does not say in 'url' what it asks for" in capsys.readouterr().err
    file.write_bytes(b"\n \n")
    assert stoker("run", str(file)) == 1
    assert f"{file} is empty" in capsys.readouterr().err
    assert api.seen == []


@pytest.mark.parametrize(
    "wrong",
    [
        ("no/such/folder", "no/such/folder cannot be written"),
        (".", ". is a folder"),
        ("prompts.jsonl", "take the place of the requests"),
    ],
)
def test_a_place_for_the_answers_that_is_none_is_refused_before_anything_is_sent(
    api: ScriptedApi, stoker: Run, file: Path, capsys: pytest.CaptureFixture[str], wrong: tuple[str, str]
) -> None:
    assert stoker("run", str(file), "--wait", "--output", wrong[0]) == 2
    assert wrong[1] in capsys.readouterr().err
    assert api.seen == []


def test_answers_do_not_take_the_place_of_a_pipe_or_of_a_link(
    api: ScriptedApi, client: Stoker, tmp_path: Path
) -> None:
    api.on("GET", f"{AT}/output", Reply(200, ANSWERS))
    pipe, link, kept = tmp_path / "pipe", tmp_path / "link", tmp_path / "kept"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    kept.write_bytes(b"old")
    link.symlink_to(kept)
    try:
        assert client.batches.save("batch_1", pipe) == client.batches.save("batch_1", link) == len(ANSWERS)
        assert os.read(reader, 100) == ANSWERS
        api.on("GET", f"{AT}/output", CUT, Reply(200, ANSWERS))
        with pytest.raises(StokerError, match="save them to a file"):
            client.batches.save("batch_1", pipe)
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert (link.readlink(), kept.read_bytes()) == (kept, ANSWERS)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing.jsonl",), "There is no file nothing.jsonl"),
        ((".",), "There is no file ."),
        (("x", "--metadata", "a"), "must look like key=value"),
        (("x", "--timeout", "soon"), "is not a number of seconds"),
        ((), "FILE"),
    ],
)
def test_a_wrong_command_line_sends_nothing(
    api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert stoker("run", *words) == 2
    assert said in capsys.readouterr().err
    assert api.seen == []


def test_batches_are_listed_and_looked_at(api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]) -> None:
    page = {"data": [batch(total=5, completed=2, paused=True)], "has_more": False, "last_id": "batch_1"}
    api.on("GET", "/v1/batches", Reply(200, page))
    assert (stoker(), stoker("list", "--limit", "3")) == (0, 0)
    assert [one.query["limit"] for one in api.seen] == ["20", "3"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["BATCH", "STATUS", "AGE", "LINES", "ENDPOINT"]
    assert re.split(" {2,}", printed[1])[:2] == ["batch_1", "paused"]
    assert "2 of 5 done" in printed[1]
    api.on("GET", AT, Reply(200, DONE | {"metadata": {"a": "b"}, "errors": {"data": [FLAW]}}))
    assert stoker("get", "batch_1") == 0
    shown = capsys.readouterr().out
    assert shown.count("1,198 of 1,200 done") == 1
    assert re.search(r"^  ended +in 1 min, 20 lines/s$", shown, re.MULTILINE)
    for words in ("batch_1  completed", "1,198 of 1,200 done, 2 failed", "a=b", "file_o", "line 3,000: The line is"):
        assert words in shown
    assert stoker("list", "--limit", "0") == 2


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
def test_a_batch_is_steered(api: ScriptedApi, stoker: Run, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("POST", f"{AT}/{verb}", Reply(200, batch("cancelling")))
    assert stoker(verb, "batch_1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "cancelling"


def test_answers_so_far_go_to_a_file_or_to_standard_output(
    api: ScriptedApi, stoker: Run, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    api.on("GET", f"{AT}/output", Reply(200, ANSWERS))
    api.on("GET", f"{AT}/errors", Reply(200, b""))
    assert stoker("output", "batch_1") == 0
    assert capfdbinary.readouterr().out == ANSWERS
    assert stoker("output", "batch_1", "--errors", "-o", "e.jsonl") == 0
    assert (tmp_path / "e.jsonl").read_bytes() == b""


def test_nothing_is_asked_for_that_cannot_be_written(
    api: ScriptedApi, stoker: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stoker("output", "batch_1", "-o", "no/such/folder") == 1
    assert "no/such/folder cannot be written" in capsys.readouterr().err
    assert api.seen == []


def test_a_download_that_breaks_begins_anew(api: ScriptedApi, client: Stoker, tmp_path: Path) -> None:
    busy = error(503, "unavailable", "Not now.")
    api.on("GET", f"{AT}/output", CUT, busy, Reply(200, ANSWERS))
    assert client.batches.save("batch_1", tmp_path / "out") == len(ANSWERS)
    assert (tmp_path / "out").read_bytes() == ANSWERS
    api.on("GET", f"{AT}/output", error(410, "gone", "The file is deleted."))
    with pytest.raises(StokerError, match="The file is deleted"):
        client.batches.save("batch_1", tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_a_download_is_given_up_when_patience_is_used_up(api: ScriptedApi, impatient: Stoker, tmp_path: Path) -> None:
    api.on("GET", f"{AT}/output", error(503, "unavailable", "Not now."))
    with pytest.raises(ServiceError, match="Not now"):
        impatient.batches.save("batch_1", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_inputs_become_a_batch_without_a_file(api: ScriptedApi, client: Stoker) -> None:
    api.on("POST", "/v1/batches", Reply(202, batch("validating")))
    inputs = [{"kind": "text", "model": "echo", "input": {"prompt": "hi"}}]
    assert client.batches.submit(inputs, completion_window="1h").id == "batch_1"
    (seen,) = api.seen
    assert json.loads(seen.body) == {"inputs": inputs, "completion_window": "1h"}
    with pytest.raises(StokerError, match="leave 'endpoint' out"):
        client.batches.submit(inputs, endpoint=CHAT)


def test_waiting_has_an_end_and_lists_have_pages(api: ScriptedApi, client: Stoker) -> None:
    api.on("GET", AT, Reply(200, batch(total=2)))
    with pytest.raises(BatchTimeoutError, match="still in_progress") as caught:
        client.batches.wait("batch_1", 0)
    assert caught.value.batch.total == 2
    first = {"data": [batch(), batch()], "has_more": True, "last_id": "batch_1"}
    last = {"data": [batch()], "has_more": False, "last_id": "batch_1"}
    api.on("GET", "/v1/batches", Reply(200, first), Reply(200, last))
    assert len(list(client.batches.list())) == 3
    assert [one.query.get("after") for one in api.asked("/v1/batches")] == [None, "batch_1"]


def test_progress_tells_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("stoker.commands.batch_progress.time.monotonic", lambda: now[0])
    pace = Pace()
    said = []
    for seconds, completed in ((0.0, 0), (2.0, 1000), (10.0, 2000), (40.0, 8000), (60.0, 8000)):
        now[0] = seconds
        said.append(progress_of(Batch(batch(total=10_000, completed=completed, failed=completed // 1000)), pace))
    assert said == [
        f"{'░' * 24} 0% 0 of 10,000 done",
        f"██{'░' * 22} 10% 1,000 of 10,000 done, 1 failed, 500 lines/s, 18 s left",
        f"████{'░' * 20} 20% 2,000 of 10,000 done, 2 failed, 200 lines/s, 40 s left",
        f"{'█' * 19}{'░' * 5} 80% 8,000 of 10,000 done, 8 failed, 200 lines/s, 10 s left",
        f"{'█' * 19}{'░' * 5} 80% 8,000 of 10,000 done, 8 failed",
    ]
    assert progress_of(Batch(batch("validating")), pace) == "validating: its file is being checked"
    assert progress_of(Batch(batch(total=10, paused=True)), pace).endswith("0 of 10 done, paused")
    assert progress_of(Batch(batch("finalizing", total=10, completed=10)), pace).endswith(
        "100% 10 of 10 done, finalizing"
    )


def test_a_summary_says_how_a_batch_ended() -> None:
    expired = batch("expired", total=3, completed=1, failed=2, expired_at=1_000_000, usage={"total_tokens": 1234})
    assert summary_of(Batch(expired)) == "expired, 1 of 3 done, 2 failed, in 0 s, 1,234 tokens"
