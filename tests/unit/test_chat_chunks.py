"""OpenAI's stream out of a job's events: what was sent is never taken back, and never spliced."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_api.chat_chunks import Chunks, Strand
from producer_api.views import NEWBORN
from schemas.base import JsonObject
from schemas.errors import EngineFailedError
from schemas.events import Envelope, EventType
from storage.rows import JobRow
from tasks.doors.chat import Heading

ROW = replace(JobRow(**NEWBORN), usage='{"prompt_tokens":3,"completion_tokens":4,"cached_prompt_tokens":2}')
RESTARTED: tuple[EventType, JsonObject] = (EventType.RESTARTED, {})


def token(text: str, choice: int = 0) -> tuple[EventType, JsonObject]:
    return EventType.TOKEN, {"text": text, **({"choice": choice} if choice else {})}


def piece(index: int = 0, **said: Any) -> tuple[EventType, JsonObject]:
    return EventType.TOOL_CALL, {"index": index, **said}


def snapshot(text: str, **more: Any) -> tuple[EventType, JsonObject]:
    return EventType.SNAPSHOT, {"text": text, **more}


class Ear:
    """A client that reads what it is told."""

    def __init__(self, choices: int = 1, *, with_usage: bool = False) -> None:
        self.chunks = Chunks(Heading("job_7", "m:a", 1700.9), choices, with_usage=with_usage)
        self.read: list[JsonObject] = []
        self.is_done = False
        self._seq = 0
        self._take(self.chunks.begin())

    def hear(self, *events: tuple[EventType, JsonObject], attempt: int = 1, begin: int | None = None) -> None:
        """Tell events of an attempt, one after the other."""
        if begin is not None:
            self._seq = begin - 1
        for kind, data in events:
            self._seq += 1
            self._take(self.chunks.hear([Envelope(attempt, self._seq, kind, 0.0, data)]))

    def finish(self, text: str = "", **output: Any) -> None:
        """Tell the end."""
        self._take(self.chunks.finish(ROW, {"text": text, "finish_reason": "stop", **output}))

    def _take(self, body: bytes) -> None:
        for line in filter(None, body.decode().split("\n\n")):
            assert line.startswith("data: ")
            if line == "data: [DONE]":
                self.is_done = True
            else:
                self.read.append(json.loads(line.removeprefix("data: ")))

    @property
    def deltas(self) -> list[JsonObject]:
        """What each chunk adds, after the roles."""
        deltas = [chunk["choices"][0]["delta"] for chunk in self.read if chunk["choices"]]
        return [delta for delta in deltas if delta and "role" not in delta]

    def text(self, choice: int = 0) -> str:
        """The words of an answer."""
        own = (one for chunk in self.read for one in chunk["choices"] if one["index"] == choice)
        return "".join(one["delta"].get("content") or "" for one in own)


def test_chunks_look_like_openais() -> None:
    ear = Ear(with_usage=True)
    ear.hear((EventType.STARTED, {}), token("안녕 😀"), begin=1)
    ear.finish("안녕 😀")
    heading = {
        "id": "chatcmpl-7",
        "object": "chat.completion.chunk",
        "created": 1700,
        "model": "m:a",
        "system_fingerprint": None,
    }
    assert all({**chunk, "choices": 0, "usage": 0} == {**heading, "choices": 0, "usage": 0} for chunk in ear.read)
    assert [chunk["choices"] for chunk in ear.read] == [
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "안녕 😀"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
        [],
    ]
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert [chunk["usage"] for chunk in ear.read] == [None, None, None, usage]
    assert ear.is_done


def test_usage_is_told_only_when_it_is_wanted() -> None:
    ear = Ear()
    ear.finish("a")
    assert ear.read
    assert all("usage" not in chunk and chunk["choices"] for chunk in ear.read)


def test_an_empty_token_is_not_told() -> None:
    ear = Ear()
    ear.hear((EventType.STARTED, {}), token(""), token("a"), begin=1)
    assert ear.deltas == [{"content": "a"}]


def test_several_answers_are_told_apart() -> None:
    ear = Ear(choices=2)
    ear.hear((EventType.STARTED, {}), token("a"), token("x", 1), token("b"), begin=1)
    ear.finish(
        "ab",
        choices=[
            {"index": 0, "text": "ab", "finish_reason": "stop"},
            {"index": 1, "text": "xy", "finish_reason": "length"},
        ],
    )
    assert (ear.text(0), ear.text(1)) == ("ab", "xy")
    reasons = [(one["index"], one["finish_reason"]) for chunk in ear.read for one in chunk["choices"]]
    assert [pair for pair in reasons if pair[1]] == [(0, "stop"), (1, "length")]


CALLS: list[JsonObject] = [
    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}},
    {"id": "c2", "type": "function", "function": {"name": "leave", "arguments": "{}"}},
]
TOLD = [
    {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}},
    {"index": 0, "function": {"arguments": '{"a":'}},
    {"index": 0, "function": {"arguments": "1}"}},
    {"index": 1, "id": "c2", "type": "function", "function": {"name": "leave", "arguments": "{}"}},
]


def test_calls_are_told_piece_by_piece() -> None:
    ear = Ear()
    ear.hear(
        (EventType.STARTED, {}),
        piece(id="c1", name="look"),
        piece(arguments='{"a":'),
        piece(arguments="1}"),
        piece(1, id="c2", name="leave", arguments="{}"),
        begin=1,
    )
    ear.finish(tool_calls=CALLS, finish_reason="tool_calls")
    assert ear.deltas == [{"tool_calls": [one]} for one in TOLD]
    assert ear.read[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_calls_that_were_not_heard_are_told_at_the_end() -> None:
    ear = Ear()
    ear.hear((EventType.STARTED, {}), piece(id="c1", name="look", arguments='{"a":'), begin=1)
    ear.finish(tool_calls=CALLS, finish_reason="tool_calls")
    assert ear.deltas[1:] == [{"tool_calls": [TOLD[2]]}, {"tool_calls": [TOLD[3]]}]


def test_a_new_attempt_goes_on_where_it_says_the_same() -> None:
    ear = Ear()
    ear.hear(
        (EventType.STARTED, {}), token("one "), token("two "), piece(id="c1", name="look", arguments='{"a"'), begin=1
    )
    ear.hear(RESTARTED, token("one two"), token(" three"), attempt=2, begin=1)
    ear.hear(piece(id="c9", name="look"), piece(arguments='{"a":1}'), attempt=2)
    ear.finish("one two three", tool_calls=[{**CALLS[0], "id": "c9"}], finish_reason="tool_calls")
    assert ear.text() == "one two three"
    assert ear.deltas[-1] == {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}


@pytest.mark.parametrize(
    "again",
    [
        [token("one too")],
        [token("One")],
        [piece(id="c1", name="leave")],
        [piece(id="c1", name="look", arguments="[")],
        [snapshot("two")],
    ],
)
def test_a_new_attempt_that_says_otherwise_is_an_error(again: list[tuple[EventType, JsonObject]]) -> None:
    ear = Ear()
    ear.hear((EventType.STARTED, {}), token("one two"), piece(id="c1", name="look", arguments="{"), begin=1)
    with pytest.raises(EngineFailedError, match="answered otherwise"):
        ear.hear(RESTARTED, *again, attempt=2, begin=1)


def test_a_new_attempt_that_ends_sooner_is_an_error() -> None:
    for last, text in ((token(" two"), "one"), (piece(id="c1", name="look"), "one")):
        ear = Ear()
        ear.hear((EventType.STARTED, {}), token("one"), last, begin=1)
        with pytest.raises(EngineFailedError, match="answered otherwise"):
            ear.finish(text)


def test_a_snapshot_stands_for_all_before_it() -> None:
    ear = Ear(choices=2)
    ear.hear((EventType.STARTED, {}), token("one "), begin=1)
    called = {"index": 0, "id": "c1", "name": "look", "arguments": "{}"}
    choices = [{"text": "one two", "tool_calls": [called]}, {"text": "x", "tool_calls": []}]
    ear.hear(snapshot("one two", choices=choices), token(" three"), token("y", 1), begin=500)
    assert (ear.text(0), ear.text(1)) == ("one two three", "xy")


def test_what_comes_after_a_hole_waits_for_a_snapshot_or_the_end() -> None:
    ear = Ear()
    ear.hear((EventType.STARTED, {}), token("one "), begin=1)
    ear.hear(token("three "), begin=4)
    assert ear.text() == "one "
    ear.hear(snapshot("one two three "), token("four "))
    assert ear.text() == "one two three four "
    ear.hear(token("six "), begin=9)
    ear.finish("one two three four five six seven")
    assert ear.text() == "one two three four five six seven"


def test_a_log_that_was_lost_is_made_up_for_by_the_row() -> None:
    ear = Ear()
    ear.hear((EventType.STARTED, {}), token("one "), begin=1)
    ear.finish("one two")
    assert ear.text() == "one two"


@given(st.text(max_size=30), st.lists(st.integers(0, 30)), st.lists(st.integers(0, 30)), st.integers(0, 30))
def test_a_strand_tells_a_text_once_however_it_is_cut(
    text: str, cuts: list[int], others: list[int], stop: int
) -> None:
    strand, sent = Strand(), []
    for places, until in ((cuts, stop), (others, len(text))):
        strand.restart()
        edges = sorted({0, *(min(cut, until, len(text)) for cut in places), min(until, len(text))})
        sent += [strand.hear(text[begin:end]) for begin, end in pairwise(edges)]
    assert "".join(sent) == text == strand.sent
