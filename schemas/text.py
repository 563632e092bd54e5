"""Text jobs: what goes in, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NotRequired, Self, TypedDict

from pydantic import BeforeValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from schemas.base import JsonObject, Strict

MESSAGES_LIMIT = 1000
TOOLS_LIMIT = 128
STOPS_LIMIT = 16
STOP_CHARACTERS = 256
CHOICES_LIMIT = 16

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""What tools and schemas are called."""


def _type_of(value: object) -> str | None:
    """Return what a value says of its own type, in the brackets that keep it out of the names of fields."""
    said = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"[{said}]" if isinstance(said, str) else None


def _shape_of(value: object) -> str | None:
    if isinstance(value, str):
        return "[words]"
    if isinstance(value, list):
        return "[parts]"
    return "[object]" if isinstance(value, dict | Strict) else None


def _one_of(choose: Callable[[object], str | None], message: str) -> Discriminator:
    """Return what tells the shapes of a field apart, and says so when none of them is there."""
    return Discriminator(choose, custom_error_type="unknown_shape", custom_error_message=message)


class TextPart(Strict):
    """Words within a turn."""

    type: Literal["text"]
    text: str


class ImageUrl(Strict):
    """Where a picture is."""

    url: str = Field(min_length=1)
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(Strict):
    """A picture within a turn, for models that can look at one."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[
    Annotated[TextPart, Tag("[text]")] | Annotated[ImagePart, Tag("[image_url]")],
    _one_of(_type_of, "The 'type' of a part is 'text' or 'image_url'"),
]
Content = Annotated[
    Annotated[str, Tag("[words]")] | Annotated[list[Part], Tag("[parts]")],
    _one_of(_shape_of, "Send text, or a list of parts"),
]


class CalledFunction(Strict):
    """Which function a model wants called, and with what."""

    name: Name
    arguments: str = Field(description="JSON, as the model wrote it.")


class ToolCall(Strict):
    """A model's wish that a function be called."""

    id: str = Field(min_length=1, max_length=128)
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Strict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Content | None = None
    name: str | None = Field(None, max_length=64)
    tool_calls: list[ToolCall] | None = Field(None, min_length=1, max_length=TOOLS_LIMIT)
    tool_call_id: str | None = Field(None, min_length=1, max_length=128)

    @property
    def text(self) -> str:
        """Return the turn's words."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content if isinstance(part, TextPart))
        return self.content or ""

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            message = f"'tool_calls' belong to the assistant, not to a turn of the {self.role}"
            raise ValueError(message)
        if (self.tool_call_id is not None) != (self.role == "tool"):
            message = "a turn of the tool, and no other, names the call it answers in 'tool_call_id'"
            raise ValueError(message)
        if self.content is None and not self.tool_calls:
            message = f"this turn of the {self.role} has no 'content'"
            raise ValueError(message)
        return self


class Function(Strict):
    """A function that the model may want called."""

    name: Name
    description: str = Field("", max_length=4096)
    parameters: JsonObject = Field(default_factory=dict, description="The JSON schema of its arguments.")
    strict: bool | None = Field(None, description="Hold the arguments to the schema while they are written.")


class Tool(Strict):
    """A tool: so far always a function."""

    type: Literal["function"]
    function: Function


class ChosenFunction(Strict):
    """The name of a function."""

    name: Name


class ChosenTool(Strict):
    """The one tool that must be called."""

    type: Literal["function"]
    function: ChosenFunction


class Schema(Strict):
    """A JSON schema that the answer keeps to."""

    name: Name
    description: str | None = Field(None, max_length=4096)
    json_schema: JsonObject = Field(alias="schema")
    strict: bool | None = None


class PlainFormat(Strict):
    """Free text, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(Strict):
    """JSON that keeps to a schema."""

    type: Literal["json_schema"]
    json_schema: Schema


ResponseFormat = Annotated[
    Annotated[PlainFormat, Tag("[text]")]
    | Annotated[PlainFormat, Tag("[json_object]")]
    | Annotated[SchemaFormat, Tag("[json_schema]")],
    _one_of(_type_of, "Its 'type' is 'text', 'json_object' or 'json_schema'"),
]
ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("[words]")] | Annotated[ChosenTool, Tag("[object]")],
    _one_of(_shape_of, "Send 'none', 'auto', 'required', or the one tool that must be called"),
]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=STOP_CHARACTERS)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class TextInput(Strict):
    """Either `messages` or `prompt`, and how to go on from there."""

    messages: list[Message] | None = Field(None, min_length=1, max_length=MESSAGES_LIMIT)
    prompt: str | None = Field(None, min_length=1)
    adapter: str | None = Field(None, min_length=1, max_length=128, description="An adapter of the model, by its id.")
    max_tokens: int | None = Field(
        None, ge=1, le=1_000_000, description="By default as many as the context still has room for."
    )
    temperature: float | None = Field(
        None, ge=0, le=2, description="0 always takes the likeliest token; by default what the model's makers advise."
    )
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=1, le=100_000)
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    seed: int | None = Field(None, ge=0, lt=2**63)
    n: int = Field(1, ge=1, le=CHOICES_LIMIT, description="How many answers.")
    stop: Annotated[
        list[Stop], BeforeValidator(_as_list, json_schema_input_type=str | list[str]), Field(max_length=STOPS_LIMIT)
    ] = Field(default_factory=list, description="The answer ends before any of these.")
    tools: list[Tool] = Field(default_factory=list, max_length=TOOLS_LIMIT)
    tool_choice: ToolChoice = "auto"
    response_format: ResponseFormat | None = None
    stream: bool = Field(default=True, description="Say the words in the job's events while they come.")

    @property
    def text(self) -> str:
        """Return all words that go in."""
        return self.prompt or "\n".join(message.text for message in self.messages or ())

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.messages is None) == (self.prompt is None):
            message = "send either 'messages' or 'prompt', not both and not neither"
            raise ValueError(message)
        if self.messages is not None:
            _check_order(self.messages)
        return self

    @model_validator(mode="after")
    def _tools_fit(self) -> Self:
        names = [tool.function.name for tool in self.tools]
        if len(set(names)) < len(names):
            message = "two of the 'tools' have the same name"
            raise ValueError(message)
        if self.tools and self.prompt is not None:
            message = "'tools' need 'messages'; a bare 'prompt' has no place for them"
            raise ValueError(message)
        if self.tool_choice == "required" and not names:
            message = "'tool_choice' is 'required', but there are no 'tools'"
            raise ValueError(message)
        if isinstance(self.tool_choice, ChosenTool) and self.tool_choice.function.name not in names:
            message = f"'tool_choice' names '{self.tool_choice.function.name}', which is not among the 'tools'"
            raise ValueError(message)
        return self


def _check_order(messages: Sequence[Message]) -> None:
    """See that a conversation is one: system first, tools answer calls, the last word is not the assistant's."""
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        if message.role == "system" and any(earlier.role != "system" for earlier in messages[:index]):
            complaint = f"messages[{index}] is a system turn in mid-conversation; system turns come first"
            raise ValueError(complaint)
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                complaint = (
                    f"messages[{index}] answers the call '{message.tool_call_id}', "
                    "which the assistant's turn before it does not make"
                )
                raise ValueError(complaint)
        else:
            open_calls = {call.id for call in message.tool_calls or ()}
    if messages[-1].role in ("assistant", "system"):
        complaint = f"the last of the 'messages' is the {messages[-1].role}'s; end with a turn of the user or a tool"
        raise ValueError(complaint)


class Choice(TypedDict):
    """One answer. `messages` of the output hold the same as turns, where the input was a conversation."""

    index: int
    text: str
    finish_reason: str
    tool_calls: NotRequired[list[JsonObject]]


class TextOutput(TypedDict):
    """What a text job gives: the first answer, and all of them when more than one was asked for."""

    text: str
    finish_reason: str
    tool_calls: NotRequired[list[JsonObject]]
    messages: NotRequired[list[JsonObject]]
    choices: NotRequired[list[Choice]]
