"""The demo model's prompts are the very tokens that its makers' library would give it."""

from pathlib import Path
from typing import Any

import pytest

from schemas.text import TextInput
from tasks.prompts import Prompts

FOLDER = Path(__file__).parents[2] / "models" / "chat" / "weights"
SYSTEM = {"role": "system", "content": "You are a pirate."}
USER = {"role": "user", "content": "안녕하세요 😀 what is\na queue?"}
CALL: Any = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": {"city": "서울", "n": 1}}}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "description": 'Look "there" & <here>.',
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CONVERSATIONS: dict[str, tuple[list[Any], list[Any] | None]] = {
    "a question": ([USER], None),
    "a manner": ([SYSTEM, USER], None),
    "several turns": ([SYSTEM, USER, {"role": "assistant", "content": "A line."}, USER], None),
    "tools": ([USER], [TOOL]),
    "a call and its answer": (
        [
            USER,
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "Rain."},
        ],
        [TOOL],
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_tokens_are_the_librarys(name: str) -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415 - takes seconds

    messages, tools = CONVERSATIONS[name]
    library = AutoTokenizer.from_pretrained(str(FOLDER), local_files_only=True)
    expected = library.apply_chat_template(messages, tools=tools, add_generation_prompt=True, return_dict=False)
    sent = [as_sent(message) for message in messages]
    given = TextInput.model_validate({"messages": sent, "tools": tools or []})
    assert Prompts(FOLDER).encode(given) == expected


def as_sent(message: dict[str, Any]) -> dict[str, Any]:
    """A turn as callers send it: arguments are JSON as text."""
    calls = [
        {**call, "function": {"name": call["function"]["name"], "arguments": '{"city": "서울", "n": 1}'}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else message
