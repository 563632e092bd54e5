"""What a reader makes of what was said: every choice, every call, whole, however it was cut on its way."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Envelope, EventType, Token, ToolCallPiece
from stoker.client.documents import Event
from stoker.client.transcript import Answer, ToolCall, Transcript
from tasks import story as story_module
from tasks.story import Story

HANGUL_AND_EMOJI = "안녕하세요 👩‍👩‍👧 한글 🇰🇷"


def new_story(notes: list[bool] | None = None) -> Story:
    heard = [] if notes is None else notes
    return Story("job_1", 1, lambda _, urgent: heard.append(urgent))


def transcript_of(envelopes: Sequence[Envelope]) -> Transcript:
    transcript = Transcript()
    for one in envelopes:
        transcript.add(Event(one.attempt, one.seq, one.type.value, one.at, one.data))
    return transcript


def test_one_answer_is_plain_text() -> None:
    story = new_story()
    story.say_token(Token("안"))
    story.say_token(Token("녕"))
    assert [(one.type, one.data) for one in story.take()] == [(EventType.TOKEN, {"text": "안녕"})]


@pytest.mark.parametrize(("is_followed", "written"), [(True, [0.1, "a", 0.2, "b", 0.3]), (False, ["b", 0.3])])
def test_how_far_a_job_is_overtakes_what_nobody_heard(*, is_followed: bool, written: list[float | str]) -> None:
    story = new_story()
    story.audience.is_there = is_followed
    for said in (0.1, "a", 0.2, "b", 0.3):
        story.say(EventType.PREVIEW if isinstance(said, str) else EventType.PROGRESS, {"what": said})
    story.say(EventType.FINISHED, {"what": "end"})
    assert [(one.seq, one.data["what"]) for one in story.take()] == list(enumerate([*written, "end"], start=1))


def test_pieces_of_interleaved_choices_join_their_own() -> None:
    story = new_story()
    for word in ("one", "two", "three"):
        for choice in range(3):
            story.say_token(Token(f"{word}{choice} ", choice))
    assert [one.data for one in story.take()] == [
        {"text": "one0 two0 three0 "},
        {"text": "one1 two1 three1 ", "choice": 1},
        {"text": "one2 two2 three2 ", "choice": 2},
    ]


def test_a_call_begins_with_its_name_and_grows() -> None:
    story = new_story()
    story.say_tool_call(ToolCallPiece(0, id="call_1", name="weather"))
    first = story.take()
    story.say_tool_call(ToolCallPiece(0, '{"city": '))
    story.say_tool_call(ToolCallPiece(0, '"서울"}'))
    assert [one.data for one in first] == [{"index": 0, "id": "call_1", "name": "weather"}]
    assert [(one.type, one.data) for one in story.take()] == [
        (EventType.TOOL_CALL, {"index": 0, "arguments": '{"city": "서울"}'})
    ]


def test_calls_and_text_of_a_choice_keep_their_order() -> None:
    story = new_story()
    story.say_token(Token("Let me see. ", 1))
    story.say_tool_call(ToolCallPiece(0, "{}", "a", "look", choice=1))
    story.say_tool_call(ToolCallPiece(1, "{}", "b", "listen", choice=1))
    story.say_token(Token("Done.", 1))
    assert [one.data for one in story.take()] == [
        {"text": "Let me see. ", "choice": 1},
        {"index": 0, "choice": 1, "id": "a", "name": "look", "arguments": "{}"},
        {"index": 1, "choice": 1, "id": "b", "name": "listen", "arguments": "{}"},
        {"text": "Done.", "choice": 1},
    ]


def test_what_is_said_between_two_tokens_stays_between_them() -> None:
    story = new_story()
    story.say_token(Token("a"))
    story.say(EventType.LOG, {"message": "halfway"})
    story.say_token(Token("b"))
    assert [one.type for one in story.take()] == ["token", "log", "token"]


@pytest.mark.parametrize("first", [Token("a"), Token("a", 3), ToolCallPiece(0, name="look")])
def test_only_the_first_piece_of_a_job_is_urgent(first: Token | ToolCallPiece) -> None:
    notes: list[bool] = []
    story = new_story(notes)
    story.say_token(first) if isinstance(first, Token) else story.say_tool_call(first)
    story.say_token(Token("b", 1))
    story.say_tool_call(ToolCallPiece(0, "{}", choice=2))
    assert notes == [True, False, False]


PIECES = st.lists(
    st.one_of(
        st.builds(Token, st.text("ab안👩‍👧", max_size=3), st.integers(0, 2)),
        st.builds(
            ToolCallPiece,
            index=st.integers(0, 2),
            arguments=st.text("{}안", max_size=3),
            id=st.sampled_from([None, "call"]),
            name=st.sampled_from([None, "look"]),
            choice=st.integers(0, 2),
        ),
    ),
    max_size=40,
)


@given(pieces=PIECES, cuts=st.sets(st.integers(0, 40)), torn=st.integers(0, 40))
def test_a_transcript_is_what_was_said_with_and_without_the_snapshot(
    pieces: list[Token | ToolCallPiece], cuts: set[int], torn: int
) -> None:
    story, envelopes = new_story(), []
    for number, piece in enumerate(pieces):
        story.say_token(piece) if isinstance(piece, Token) else story.say_tool_call(piece)
        story.is_torn = number == torn
        if number in cuts or story.is_torn:
            envelopes += story.take()
    envelopes += story.take()
    expected = _answers(pieces)
    told = transcript_of([one for one in envelopes if one.type is not EventType.SNAPSHOT])
    assert told.choices[: len(expected)] == expected
    newest = max((n for n, one in enumerate(envelopes) if one.type is EventType.SNAPSHOT), default=0)
    assert transcript_of(envelopes[newest:]).choices == told.choices
    assert [one.seq for one in envelopes] == list(range(1, len(envelopes) + 1))


def _answers(pieces: Sequence[Token | ToolCallPiece]) -> list[Answer]:
    """What was said, put together in the plainest way."""
    answers = [Answer() for _ in range(max((one.choice for one in pieces), default=0) + 1)]
    for one in pieces:
        answer = answers[one.choice]
        if isinstance(one, Token):
            answer.text += one.text
            continue
        answer.tool_calls += [ToolCall() for _ in range(one.index + 1 - len(answer.tool_calls))]
        call = answer.tool_calls[one.index]
        call.id, call.name = one.id or call.id, one.name or call.name
        call.arguments += one.arguments
    return answers


def test_a_snapshot_of_plain_text_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story_module, "SNAPSHOT_ENTRIES", 2)
    story = new_story()
    story.say(EventType.STARTED, {})
    story.say_token(Token(HANGUL_AND_EMOJI))
    assert story.take()[-1].data == {"text": HANGUL_AND_EMOJI}


def test_a_snapshot_has_all_choices_and_calls() -> None:
    story = new_story()
    story.say_token(Token("b", 1))
    story.say_tool_call(ToolCallPiece(0, "{}", "c1", "look", choice=1))
    story.is_torn = True
    assert story.take()[-1].data == {
        "text": "",
        "choices": [
            {"text": "", "tool_calls": []},
            {"text": "b", "tool_calls": [{"index": 0, "id": "c1", "name": "look", "arguments": "{}"}]},
        ],
    }
