"""Chat as OpenAI's clients ask for it, and how a text job's output answers them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue

from schemas.base import JsonObject, Strict
from schemas.catalog import Catalog, Model
from schemas.errors import InvalidError
from schemas.jobs import Kind
from schemas.text import Message, ResponseFormat, TextInput, Tool, ToolChoice
from tasks.routing import check_kind, find_variant

SAME = (
    *("messages", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "seed", "n"),
    *("stop", "tools", "tool_choice", "response_format", "stream"),
)
"""What means the same in a text job."""
Find = Callable[[Catalog, str], tuple[Model, str | None]]
NOTHING: tuple[object, ...] = (None, [], {})
UNSUPPORTED = {
    **dict.fromkeys(("logit_bias", "logprobs", "top_logprobs", "reasoning_effort", "verbosity"), "take it out"),
    **dict.fromkeys(("prediction", "audio", "web_search_options", "moderation"), "take it out"),
    "functions": "send 'tools' instead",
    "function_call": "send 'tool_choice' instead",
}
"""What OpenAI's API takes and this door does not, and what to do about it."""
IGNORED, REFUSED = "Accepted and ignored.", "Not supported."


def _as_turn(value: object) -> object:
    """Return a turn in our words: clients send back what they got, with all that it did not have and they added."""
    if not isinstance(value, dict):
        return value
    turn = {name: inner for name, inner in value.items() if inner not in NOTHING or name == "content"}
    turn.pop("parsed", None)
    if turn.get("role") == "developer":
        turn["role"] = "system"
    if isinstance(calls := turn.get("tool_calls"), list):
        turn["tool_calls"] = [_as_call(call) for call in calls]
    return turn


def _as_call(value: object) -> object:
    """Return a call without what OpenAI's clients add: its place in the stream, and its arguments once parsed."""
    if not isinstance(value, dict):
        return value
    call = {name: inner for name, inner in value.items() if name != "index"}
    if isinstance(function := call.get("function"), dict):
        call["function"] = {name: inner for name, inner in function.items() if name != "parsed_arguments"}
    return call


def _as_tool(value: object) -> object:
    """Return a tool in our words: what is null is not said."""
    if not isinstance(value, dict) or not isinstance(function := value.get("function"), dict):
        return value
    return {**value, "function": {name: inner for name, inner in function.items() if inner is not None}}


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class StreamOptions(Strict):
    """How a stream is told."""

    include_usage: bool = False
    include_obfuscation: bool = Field(default=False, description="Accepted and ignored.")


class ChatRequest(Strict):
    """What OpenAI's clients send."""

    model: str = Field(min_length=1, max_length=128, description="A text model, or `model:adapter`.")
    messages: list[Annotated[Message, BeforeValidator(_as_turn)]]
    max_completion_tokens: int | None = Field(None, description="By default as many as the context has room for.")
    max_tokens: int | None = Field(None, description="The older name of `max_completion_tokens`.")
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = Field(None, description="Not OpenAI's; send it as `extra_body`.")
    min_p: float | None = Field(None, description="Not OpenAI's; send it as `extra_body`.")
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    n: int | None = None
    stop: Annotated[list[str] | None, BeforeValidator(_as_list, json_schema_input_type=str | list[str] | None)] = None
    tools: list[Annotated[Tool, BeforeValidator(_as_tool)]] | None = None
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: dict[str, JsonValue] | None = Field(None, description="Of the job.")
    modalities: list[Literal["text"]] | None = Field(None, description="What text models give anyway.")
    user: str | None = Field(None, description=IGNORED)
    safety_identifier: str | None = Field(None, description=IGNORED)
    prompt_cache_key: str | None = Field(None, description=IGNORED)
    prompt_cache_retention: str | None = Field(None, description=IGNORED)
    prompt_cache_options: JsonObject | None = Field(None, description=IGNORED)
    store: bool | None = Field(None, description=IGNORED)
    parallel_tool_calls: bool | None = Field(None, description=IGNORED)
    service_tier: str | None = Field(None, description=IGNORED)
    logit_bias: dict[str, float] | None = Field(None, description=REFUSED)
    logprobs: bool | None = Field(None, description=REFUSED)
    top_logprobs: int | None = Field(None, description=REFUSED)
    reasoning_effort: JsonValue = Field(None, description=REFUSED)
    verbosity: JsonValue = Field(None, description=REFUSED)
    prediction: JsonValue = Field(None, description=REFUSED)
    audio: JsonValue = Field(None, description=REFUSED)
    web_search_options: JsonValue = Field(None, description=REFUSED)
    moderation: JsonValue = Field(None, description=REFUSED)
    functions: JsonValue = Field(None, description=REFUSED)
    function_call: JsonValue = Field(None, description=REFUSED)


def read_chat(wanted: ChatRequest, catalog: Catalog, find: Find = find_variant) -> tuple[Model, TextInput]:
    """Return the model that is asked and what it is asked; `find` says which adapters there are."""
    model, adapter = find(catalog, wanted.model)
    check_kind(catalog, model, Kind.TEXT)
    for name, instead in UNSUPPORTED.items():
        if getattr(wanted, name) not in (*NOTHING, False, 0):
            raise InvalidError(f"'{name}' is not supported here; {instead}.", param=name)
    limits = {wanted.max_completion_tokens, wanted.max_tokens} - {None}
    if len(limits) > 1:
        raise InvalidError(
            "'max_tokens' is the older name of 'max_completion_tokens'; send only one of them.", param="max_tokens"
        )
    given = {name: getattr(wanted, name) for name in SAME if getattr(wanted, name) is not None}
    limit = next(iter(limits), None)
    return model, TextInput(**{"stream": False, **given}, adapter=adapter, max_tokens=limit)


@dataclass(frozen=True, slots=True)
class Heading:
    """What every part of an answer begins with."""

    made_by: str
    """The id of a job, or of a batch's line."""
    model: str
    created_at: float

    def as_json(self, kind: str) -> JsonObject:
        """Return it as fields of an object of that kind."""
        return {
            "id": f"chatcmpl-{self.made_by.rpartition('_')[2]}",
            "object": kind,
            "created": int(self.created_at),
            "model": self.model,
            "system_fingerprint": None,
        }


def as_completion(heading: Heading, output: JsonObject, used: JsonObject) -> JsonObject:
    """Return a whole answer."""
    choices = [
        {
            "index": index,
            "message": _as_message(choice),
            "logprobs": None,
            "finish_reason": choice["finish_reason"],
        }
        for index, choice in enumerate(choices_of(output))
    ]
    return {**heading.as_json("chat.completion"), "choices": choices, "usage": usage_of(used)}


def choices_of(output: JsonObject) -> list[JsonObject]:
    """Return all answers of an output."""
    found: list[JsonObject] = output.get("choices") or [output]
    return found


def _as_message(choice: Mapping[str, Any]) -> JsonObject:
    calls = choice.get("tool_calls")
    content = choice["text"] if choice["text"] or not calls else None
    message: JsonObject = {"role": "assistant", "content": content, "refusal": None}
    return {**message, "tool_calls": calls} if calls else message


def usage_of(used: JsonObject) -> JsonObject:
    """Return what was read and written."""
    read, written = used.get("prompt_tokens", 0), used.get("completion_tokens", 0)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": used.get("cached_prompt_tokens", 0)},
    }
