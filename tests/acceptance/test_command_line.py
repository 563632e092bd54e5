"""`bin/stoker` on a running platform, as a person at a terminal and as a script uses it."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.platform import PATIENCE_SECONDS, ROOT, Platform
from tests.acceptance.terminal import COLUMNS, Terminal

STOKER = str(ROOT / "bin" / "stoker")
QUEUE = "text.echo.cpu0"

Call = Callable[..., "subprocess.CompletedProcess[str]"]
Open = Callable[..., Terminal]


@pytest.fixture
def stoker(platform: Platform, tmp_path: Path) -> Call:
    """Run a command as a script would, from a folder that is not the checkout."""

    def call(*words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [STOKER, *words],
            cwd=tmp_path,
            env=platform.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return call


@pytest.fixture
def terminal(platform: Platform, tmp_path: Path) -> Open:
    """Run a command where a person looks."""
    return lambda *words: Terminal([STOKER, *words], tmp_path, platform.environment)


def answer(done: "subprocess.CompletedProcess[str]") -> Any:
    """The JSON that a command printed."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_job_from_submit_to_its_bytes(stoker: Call, tmp_path: Path) -> None:
    job_id = stoker("submit", "echo", "Hello,", "Stoker!", "--metadata", "from=test").stdout.strip()
    watched = stoker("watch", job_id)
    assert (watched.returncode, watched.stdout[:14]) == (0, "Hello, Stoker!")
    job = answer(stoker("get", job_id, "--json"))
    assert (job["status"], job["metadata"], job["output"]["text"]) == (
        "succeeded",
        {"from": "test"},
        watched.stdout.rstrip("\n"),
    )
    assert stoker("result", job_id, "-o", "out.json").returncode == 0
    assert json.loads((tmp_path / "out.json").read_text()) == job["output"]
    assert json.loads(stoker("result", job_id).stdout) == job["output"]
    page = stoker("get", job_id).stdout
    assert job_id in page
    assert "from=test" in page


def test_every_kind_takes_plain_words_and_pipes(stoker: Call, tmp_path: Path) -> None:
    assert stoker("submit", "echo", "--wait", stdin="From a pipe\n").stdout.startswith("From a pipe")
    vectors = answer(stoker("submit", "minilm", "--wait", stdin="one\ntwo\n"))["embeddings"]
    assert len(vectors) == 2
    drawn = answer(stoker("submit", "sketch", "a house", "--input", '{"n": 2}', "--wait", "--json"))
    refused = stoker("result", drawn["id"])
    assert refused.returncode == 2
    assert "image-0.png, image-1.png" in refused.stderr
    assert stoker("result", drawn["id"], "-o", ".").returncode == 0
    assert [(tmp_path / name).read_bytes()[:4] for name in ("image-0.png", "image-1.png")] == [b"\x89PNG"] * 2


def test_the_same_idempotency_key_is_the_same_job(stoker: Call) -> None:
    first, second = (stoker("submit", "echo", "Once.", "--idempotency-key", "cli-once").stdout for _ in range(2))
    assert first == second
    changed = stoker("submit", "echo", "Twice.", "--idempotency-key", "cli-once")
    assert changed.returncode == 1
    assert "Idempotency-Key" in changed.stderr


def test_jobs_are_listed_canceled_retried_and_erased(stoker: Call) -> None:
    mark = ("--metadata", "mark=list")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    waiting = stoker("submit", "echo", "Later.", "--run-at", later, *mark).stdout.strip()
    assert stoker("delete", waiting).returncode == 1
    assert stoker("cancel", waiting).stdout == f"{waiting} is canceled.\n"
    again = stoker("retry", waiting).stdout.strip()
    assert stoker("watch", again).returncode == 0
    listed = answer(stoker("jobs", *mark, "--json"))
    assert [(job["id"], job["status"], job["retry_of"]) for job in listed] == [
        (again, "succeeded", waiting),
        (waiting, "canceled", None),
    ]
    assert len(stoker("jobs", *mark, "--limit", "1").stdout.splitlines()) == 2
    assert stoker("result", waiting).returncode == 1
    assert stoker("delete", again).returncode == 0
    gone = stoker("get", again)
    assert gone.returncode == 1
    assert gone.stderr == f"There is no job '{again}' of yours; GET /v1/jobs lists those there are.\n"


def test_queues_are_shown_and_steered(stoker: Call) -> None:
    assert QUEUE in stoker("queues").stdout
    try:
        assert "is paused" in stoker("queues", "pause", QUEUE).stdout
        job_id = stoker("submit", "echo", "Wait.").stdout.strip()
        assert "the queue is paused" in stoker("get", job_id).stdout
        assert answer(stoker("queues", "purge", QUEUE, "--json")) == {"name": QUEUE, "canceled": 1}
        assert stoker("watch", job_id).returncode == 1
        assert answer(stoker("queues", "drain", QUEUE, "--json"))["moved_to"] is None
    finally:
        assert "is open" in stoker("queues", "resume", QUEUE).stdout
    unknown = stoker("queues", "pause", "text.nope.cpu0")
    assert unknown.returncode == 1
    assert "no queue 'text.nope.cpu0'" in unknown.stderr


def test_a_drained_worker_is_replaced(stoker: Call) -> None:
    def serving() -> set[str]:
        return {one["id"] for one in answer(stoker("workers", "--json")) if one["model"] == "sketch"}

    (worker,) = serving()
    assert stoker("workers", "drain", worker).returncode == 0
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not serving() - {worker}:  # it hears of it at its next beat
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert stoker("submit", "sketch", "after the drain", "--wait", "--timeout", "60").returncode == 0


def test_models_are_a_table_and_json(stoker: Call) -> None:
    told = answer(stoker("models", "--json"))
    assert {model["id"] for model in told} == {"echo", "sketch", "minilm"}
    header, *rows = stoker("models").stdout.splitlines()
    assert header.split()[:3] == ["MODEL", "KIND", "STATE"]
    assert len(rows) == 3


def test_a_new_key_opens_what_its_scopes_say_until_it_is_revoked(stoker: Call, platform: Platform) -> None:
    made = answer(stoker("keys", "create", "cli", "--scope", "read", "--json"))
    own = dict(platform.environment)
    platform.environment["STOKER_API_KEY"] = made["key"]
    try:
        assert stoker("jobs").returncode == 0
        refused = stoker("submit", "echo", "No.")
        assert refused.returncode == 1
        assert "lacks the scope 'submit'" in refused.stderr
    finally:
        platform.environment.pop("STOKER_API_KEY")
        assert platform.environment == own
    assert made["id"] in stoker("keys").stdout
    assert stoker("keys", "revoke", made["id"]).returncode == 0
    assert next(key for key in answer(stoker("keys", "--json")) if key["id"] == made["id"])["revoked_at"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("submit", "nope", "hi"), 1, "Known models: echo, minilm, sketch"),
        (("submit", "sketch", "hi", "--input", '{"width": 63}'), 1, "input.width"),
        (("submit", "echo", "hi", "--kind", "image"), 1, "echo"),
        (("submit", "echo", "--input", "{"), 2, "not valid JSON"),
        (("submit", "echo", "fake:refuse", "--wait"), 1, "engine_refused"),
        (("submit", "echo", "fake:sleep-ms=3000", "--wait", "--timeout", "1"), 1, "it goes on"),
        (("get", "job_nope"), 1, "There is no job 'job_nope' of yours"),
        (("keys", "revoke", "key_nope"), 1, "There is no key 'key_nope'"),
        (("workers", "drain", "worker_nope"), 1, "There is no worker 'worker_nope'"),
        (("jobs", "--status", "sleepy"), 1, "status"),
        (("dance",), 2, "invalid choice"),
    ],
)
def test_wrong_input_is_one_sentence(stoker: Call, words: tuple[str, ...], code: int, sentence: str) -> None:
    done = stoker(*words)
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_person_sees_the_job_wait_then_speak(terminal: Open, stoker: Call) -> None:
    stoker("queues", "pause", QUEUE)
    try:
        with terminal("submit", "echo", "Hello", "--watch") as screen:
            screen.read_until("position 1 (the queue is paused)")
            stoker("queues", "resume", QUEUE)
            assert screen.finish() == 0
    finally:
        stoker("queues", "resume", QUEUE)
    assert screen.said.index("position 1") < screen.said.index("Hello") < screen.said.index("succeeded")
    assert "\nstoker result job_" in screen.shown


def test_ctrl_c_stops_watching_and_not_the_job(terminal: Open, stoker: Call) -> None:
    with terminal("submit", "echo", "fake:sleep-ms=4000 still here", "--watch") as screen:
        screen.read_until("running")
        screen.interrupt()
        assert screen.finish() == 130
    job_id = screen.said.rpartition("stoker cancel ")[2].strip()
    assert f"Stopped watching; {job_id} goes on." in screen.said
    assert "Traceback" not in screen.said
    assert stoker("watch", job_id).returncode == 0


def test_the_demo_runs_one_job_of_every_kind(terminal: Open, stoker: Call, tmp_path: Path) -> None:
    done = stoker("demo", "--json", "-o", str(tmp_path))
    assert (tmp_path / "image-0.png").read_bytes().startswith(b"\x89PNG")
    assert {job["kind"]: job["status"] for job in answer(done)} == dict.fromkeys(
        ("text", "image", "embedding"), "succeeded"
    )
    with terminal("demo", "-o", str(tmp_path / "new")) as screen:
        assert screen.finish() == 0
    assert (tmp_path / "new" / "image-0.png").is_file()
    assert "3 of 3 jobs succeeded" in screen.shown
    assert screen.shown.count("/result\n") == 3


def test_a_table_fits_eighty_columns(terminal: Open) -> None:
    for words in (("jobs",), ("queues",), ("workers",), ("models",), ("keys",)):
        with terminal(*words) as screen:
            assert screen.finish() == 0
        lines = screen.shown.splitlines()
        assert len(lines) > 1, words
        assert max(map(len, lines)) <= COLUMNS, words


@pytest.mark.parametrize("words", ["models", "queues --json", "status", "--help"])
def test_a_reader_who_leaves_sees_no_traceback(platform: Platform, tmp_path: Path, words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does when it has seen enough
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run(
            [STOKER, *words.split()],
            cwd=tmp_path,
            env=platform.environment,
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.stderr == b""
    assert done.returncode == 1 or words == "--help"  # argparse itself shrugs off who does not read its help


def test_without_a_platform_it_says_how_to_start_one(tmp_path: Path) -> None:
    lonely = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    done = subprocess.run(
        [STOKER, "jobs"],
        cwd=tmp_path,
        env=lonely | {"STOKER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "start it with `make up`" in done.stderr
