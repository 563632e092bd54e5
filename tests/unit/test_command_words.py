"""How commands write figures, times, tables and the text of strangers."""

import sys
from datetime import UTC, datetime, timedelta

import pytest

from stoker.client import Event, Job, Model
from stoker.commands import words
from stoker.commands.demo import TEXTS, choose, closeness
from stoker.commands.outline import made_by, output_of, page_of, place_of, summary_of
from stoker.commands.screen import Screen
from stoker.commands.watch import View

VECTORS = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]
DONE = Job({"id": "job_1", "status": "succeeded", "artifacts": [], "output": {"text": "Hello."}})


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Screen:
    """A screen of 40 columns that somebody looks at."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    return Screen(colour=True)


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [(None, "-"), (0.4, "0 ms"), (999, "999 ms"), (1500, "1.5 s"), (61_000, "1 min 1 s"), (7_200_000, "2 h")],
)
def test_durations(milliseconds: float | None, expected: str) -> None:
    assert words.duration(milliseconds) == expected


def test_ages_have_one_unit() -> None:
    now = datetime.now(UTC)
    told = [words.age(now - timedelta(seconds=seconds)) for seconds in (5, 65, 3700, 90_000)]
    assert told == ["5 s", "1 min", "1 h", "1 d"]
    assert words.age(None) == words.clock(None) == "-"


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2e9, "2.0 GB")]
)
def test_sizes(count: int, expected: str) -> None:
    assert words.size(count) == expected


def test_wide_characters_take_two_columns() -> None:
    assert words.columns("고양이") == 6
    assert words.columns("e\u0301") == 1
    assert words.fit("고양이 한 마리", 7) == "고양이…"
    assert words.fit("short", 5) == "short"


def test_a_strangers_text_cannot_steer_the_terminal() -> None:
    assert words.harmless("\033[2Jgone\r\nnext\tline\x9b1m\x07\r") == "[2Jgone\nnext\tline1m"
    assert words.one_line(" a\n\033b ") == "a b"


def test_a_table_fits_the_terminal(terminal: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("고양이", "ready", "a long story about nothing at all"), ("cat", None, "short")]
    terminal.table(("NAME", "STATE", "ABOUT"), rows, "nothing")
    lines = capsys.readouterr().out.splitlines()
    bare = [line.replace("\033[1m", "").replace("\033[32m", "").replace("\033[0m", "") for line in lines]
    assert max(map(words.columns, bare)) <= 40
    assert bare[1].startswith("고양이  ready  a long story")
    assert bare[2] == "cat     -      short"
    assert "\033[32mready\033[0m" in lines[1]


def test_where_nobody_looks_there_are_no_colours_and_no_cuts(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(colour=True)
    screen.status("never shown")
    screen.table(("NAME", "ABOUT"), [("ready", "x" * 500)], "nothing")
    out = capsys.readouterr().out
    assert "\033" not in out
    assert "x" * 500 in out


def test_a_place_in_the_queue_in_words() -> None:
    place = {"name": "text.echo.cpu0", "position": 3, "eta_seconds": 65, "reason": "capacity"}
    job = Job({"status": "queued", "queue": place})
    assert place_of(job) == ("queued in text.echo.cpu0, position 3, starts in about 1 min 5 s (waits for a free slot)")
    odd = Job(
        {"status": "queued", "queue": {**place, "position_is_minimum": True, "eta_seconds": None, "reason": "moon"}}
    )
    assert place_of(odd) == "queued in text.echo.cpu0, position 3+ (moon)"


def test_outputs_in_words() -> None:
    assert output_of(DONE) == "Hello."
    assert output_of(Job({"output": {"embeddings": VECTORS}})) == "3 vectors of 2 numbers: [1.000, 0.000, …]"
    assert output_of(Job({"output": {"seeds": [1]}})) == '{"seeds": [1]}'
    assert summary_of(Job({"status": "failed", "metrics": {"queue_ms": 3}})) == "failed, waited 3 ms"


def test_a_page_says_where_the_bytes_are(terminal: Screen) -> None:
    made = [{"name": f"{n}.png", "content_type": "image/png", "bytes": 1500} for n in range(2)]
    raw = {
        **DONE.raw,
        "artifacts": made,
        "urls": {"result": "http://x/result"},
        "error": {"message": "m", "code": "c"},
    }
    assert list(made_by(Job(raw)))[-1] == "stoker result job_1 -o FOLDER"
    page = "\n".join(page_of(Job({**raw, "model": "sketch", "kind": "image", "metadata": {"a": 1}}), terminal.width))
    for part in ("sketch (image)", "0.png  image/png, 1.5 kB", "http://x/result", "a=1", "m (c)", "Hello."):
        assert part in page


def test_a_view_shows_tokens_progress_and_a_new_attempt(terminal: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    view = View(terminal)
    view.wait(Job({"queue": {"name": "q", "reason": "paused"}}))
    for attempt, kind, data in (
        (1, "started", {}),
        (1, "token", {"text": "vo\033[2Jid"}),
        (2, "restarted", {}),
        (2, "progress", {"fraction": 0.5, "stage": "draw"}),
        (2, "log", {"message": "nearly"}),
        (2, "token", {"text": "Hel"}),
        (2, "snapshot", {"text": "Hello."}),
    ):
        view.add(Event(attempt, 1, kind, 0.0, data))
    view.end(DONE)
    out = capsys.readouterr().out
    assert "\033[2J" not in out
    seen = ["queued in q (the queue is paused)", "running", "vo[2Jid", "Attempt 2 begins", "50% draw", "nearly", "Hel"]
    positions = [out.index(part) for part in (*seen, "lo.", "succeeded")]
    assert positions == sorted(positions)


def test_a_view_shows_calls_while_they_are_written(terminal: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    view = View(terminal)
    for kind, data in (
        ("token", {"text": "Let me see."}),
        ("tool_call", {"index": 0, "id": "call_1", "name": "get_weather"}),
        ("tool_call", {"index": 0, "arguments": '{"city": '}),
        ("tool_call", {"index": 0, "arguments": '"서울"}'}),
        ("tool_call", {"index": 1, "id": "call_2", "name": "look", "arguments": "{}"}),
    ):
        view.add(Event(1, 1, kind, 0.0, data))
    called = [("get_weather", '{"city": "서울"}'), ("look", "{}")]
    calls = [{"id": "c", "function": {"name": name, "arguments": arguments}} for name, arguments in called]
    view.end(Job({**DONE.raw, "output": {"text": "Let me see.", "tool_calls": calls}}))
    out = capsys.readouterr().out
    assert 'Let me see.\n→ get_weather {"city": "서울"}\n→ look {}\n' in out
    assert out.count("get_weather") == 1
    assert output_of(Job({"output": {"text": "", "tool_calls": calls[1:]}})) == "→ look {}"


def test_a_note_never_follows_half_a_line(terminal: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.write("half a")
    terminal.write(" line")
    terminal.note("A sentence.")
    terminal.write("whole\n")
    terminal.say("next")
    assert capsys.readouterr().out == "half a line\nwhole\nnext\n"


def test_the_demo_chooses_one_ready_model_of_each_kind_it_knows() -> None:
    def model(name: str, kind: str, state: str) -> Model:
        return Model({"id": name, "kind": kind, "placements": [{"state": state}]})

    found = [
        model("e", "embedding", "ready"),
        model("t1", "text", "no_worker"),
        model("t2", "text", "ready"),
        model("b", "batch", "ready"),
    ]
    assert [one.id for one in choose(found)] == ["t2", "e"]


def test_the_demo_says_which_texts_are_close() -> None:
    lines = closeness(Job({"output": {"embeddings": VECTORS}}))
    assert lines[0] == f"   0.80  {TEXTS[0]} / {TEXTS[1]}"
    assert len(lines) == 3
    assert closeness(DONE) == []
