"""What a text job must satisfy before it may wait, and what it is predicted to cost."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import JsonObject
from schemas.catalog import Model
from schemas.errors import ContextLengthError, InvalidError
from schemas.text import ImagePart, Message, SchemaFormat, TextInput
from tasks.json_schemas import check_schemas
from tasks.prompts import Prompts

LONGEST_TOKEN_CHARACTERS = 16
"""More characters than this for each token of the context certainly do not fit; fewer are counted."""

SHORT_CHARACTERS, SHORT_MESSAGES = 1_000, 16
"""Up to here counting takes a fraction of a millisecond, and handing it to a thread would take longer."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job is predicted to take."""

    prefill_tokens: int
    max_new_tokens: int


def check_text(given: TextInput, model: Model) -> None:
    """Refuse what can be seen at once."""
    for index, message in enumerate(given.messages or ()):
        if isinstance(message.content, list) and any(isinstance(part, ImagePart) for part in message.content):
            raise InvalidError(
                f"'{model.alias}' reads only text, and messages[{index}] has a picture; take it out.",
                param=f"input.messages.{index}.content",
            )
    _check_characters(given, model)


def _check_characters(given: TextInput, model: Model) -> None:
    longest, characters = model.context_length * LONGEST_TOKEN_CHARACTERS, _all_characters(given)
    if characters > longest:
        raise ContextLengthError(
            f"The {_field(given)}: {characters:,} characters, which cannot fit the context of '{model.alias}' "
            f"({model.context_length:,} tokens); send less.",
            param=f"input.{_field(given)}",
        )
    if given.max_tokens is not None and given.max_tokens > model.context_length:
        raise ContextLengthError(
            f"'max_tokens' is {given.max_tokens:,}, and '{model.alias}' has a context of {model.context_length:,} "
            "tokens for prompt and answer together; ask for less, or leave it out for as many as there is room for.",
            param="input.max_tokens",
        )


def _tokens(count: int) -> str:
    return f"{count:,} token{'' if count == 1 else 's'}"


def is_short(given: TextInput) -> bool:
    """Say whether an input without schemas is judged in no time."""
    if given.tools or len(given.messages or ()) > SHORT_MESSAGES:
        return False
    return _all_characters(given) <= SHORT_CHARACTERS


def _all_characters(given: TextInput) -> int:
    return len(given.prompt or "") + sum(map(_characters, given.messages or ()))


def _characters(message: Message) -> int:
    return len(message.text) + sum(len(call.function.arguments) for call in message.tool_calls or ())


def _field(given: TextInput) -> str:
    return "prompt" if given.messages is None else "messages"


def schemas_of(given: TextInput) -> dict[str, JsonObject]:
    """Return the JSON schemas of an input, by the names of their fields."""
    found = {
        f"input.tools.{index}.function.parameters": tool.function.parameters
        for index, tool in enumerate(given.tools)
        if tool.function.parameters
    }
    if isinstance(given.response_format, SchemaFormat):
        found["input.response_format.json_schema.schema"] = given.response_format.json_schema.json_schema
    return found


def judge(given: TextInput, model: Model, prompts: Prompts | None) -> tuple[TextInput, Cost | None]:
    """Refuse what takes a closer look, and fit the answer into the context; this takes a while.

    Without the model's tokens nothing is counted: the engine will.
    """
    check_schemas(schemas_of(given))
    if prompts is None:
        return given, None
    count = prompts.count(given)
    room = model.context_length - count
    if room < 1:
        raise ContextLengthError(
            f"The {_field(given)}: {count:,} tokens, {_tokens(1 - room)} too many. '{model.alias}' has a context of "
            f"{model.context_length:,} for prompt and answer together; send less.",
            param=f"input.{_field(given)}",
        )
    wanted = given.max_tokens or room
    if wanted > room:
        raise ContextLengthError(
            f"The {_field(given)}: {_tokens(count)}, and 'max_tokens' is {wanted:,}: {wanted - room:,} too many for "
            f"'{model.alias}' with its context of {model.context_length:,}. Send less, ask for at most {room:,}, or "
            "leave 'max_tokens' out for as many as there is room for.",
            param="input.max_tokens",
        )
    return given.model_copy(update={"max_tokens": wanted}), Cost(count, wanted * given.n)
