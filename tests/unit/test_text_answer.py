"""From pieces to a text job's output."""

from schemas.events import Token, ToolCallPiece
from workers.engines.answer import Answer, as_output


def answer(*pieces: Token | ToolCallPiece, reason: str = "stop") -> Answer:
    """An answer of these pieces."""
    made = Answer(reason=reason)
    for piece in pieces:
        made.add(piece)
    return made


CALL = answer(
    Token("Let me see."),
    ToolCallPiece(1, id="call_b", name="second", arguments="{}"),
    ToolCallPiece(0, id="call_a", name="first"),
    ToolCallPiece(0, arguments='{"city":'),
    ToolCallPiece(0, arguments=' "서울"}'),
)
CALLS = [
    {"id": "call_a", "type": "function", "function": {"name": "first", "arguments": '{"city": "서울"}'}},
    {"id": "call_b", "type": "function", "function": {"name": "second", "arguments": "{}"}},
]


def test_a_prompt_gets_text() -> None:
    output = as_output([answer(Token("a"), Token("b"), reason="length")], is_conversation=False)
    assert output == {"text": "ab", "finish_reason": "length"}


def test_a_conversation_gets_its_next_turn_too() -> None:
    output = as_output([answer(Token("Hello."))], is_conversation=True)
    assert output == {
        "text": "Hello.",
        "finish_reason": "stop",
        "messages": [{"role": "assistant", "content": "Hello."}],
    }


def test_calls_are_put_together_in_their_order() -> None:
    output = as_output([CALL], is_conversation=True)
    assert output["finish_reason"] == "tool_calls"
    assert output["tool_calls"] == CALLS
    assert output["messages"] == [{"role": "assistant", "content": "Let me see.", "tool_calls": CALLS}]


def test_an_answer_that_was_cut_in_a_call_says_so() -> None:
    cut = answer(ToolCallPiece(0, id="call_a", name="first", arguments='{"ci'), reason="length")
    assert as_output([cut], is_conversation=True)["finish_reason"] == "length"


def test_several_answers_are_all_there_and_the_first_stands_out() -> None:
    output = as_output([answer(Token("one")), CALL], is_conversation=True)
    assert output["text"] == "one"
    assert "tool_calls" not in output
    assert [choice["index"] for choice in output["choices"]] == [0, 1]
    assert output["choices"][1]["tool_calls"] == CALLS
    assert [turn["content"] for turn in output["messages"]] == ["one", "Let me see."]
