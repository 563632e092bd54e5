"""What a model really reads: a conversation in the words of its own template, as its own tokens.

The front end counts with it and the engine runs on it, so both speak of the same tokens. No torch, no transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from schemas.base import JsonObject
from schemas.errors import InvalidError, StartError
from schemas.text import Message, TextInput

TOKENIZER = "tokenizer.json"
TOKENIZER_SETTINGS = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
FILES = (TOKENIZER, TOKENIZER_SETTINGS, TEMPLATE)
"""All that is read of a model's folder."""


class Prompts:
    """Turns the inputs of text jobs into one model's tokens; any thread may ask."""

    def __init__(self, folder: Path, template: str | None = None) -> None:
        """Read a model's folder; a template of the catalog beats the folder's own."""
        path = folder / TOKENIZER
        if not path.is_file():
            raise StartError(f"{path} does not exist, so prompts cannot be counted; save the model's tokenizer there.")
        with _naming(path):
            self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        with _naming(folder / TOKENIZER_SETTINGS):
            settings = _read_json(folder / TOKENIZER_SETTINGS)
        self._special = {name: _token(settings.get(name)) for name in ("bos_token", "eos_token", "pad_token")}
        written = template or _read_template(folder, settings)
        with _naming("The model's chat template"):
            self._template = None if written is None else _environment().from_string(written)

    def encode(self, given: TextInput) -> list[int]:
        """Return the tokens of a prompt or conversation, as the model reads them."""
        if given.messages is None:
            return self.encode_text(given.prompt or "")
        ids: list[int] = self._read(self.render(given), special=False).ids
        return ids

    def encode_text(self, text: str) -> list[int]:
        """Return the tokens of a bare text."""
        ids: list[int] = self._read(text, special=True).ids
        return ids

    def count(self, given: TextInput) -> int:
        """Return how many tokens the model would read."""
        if given.messages is None:
            return len(self._read(given.prompt or "", special=True))
        return len(self._read(self.render(given), special=False))

    def _read(self, text: str, *, special: bool) -> Any:
        # A batch of one: only batches let other threads work meanwhile.
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=special)[0]

    def render(self, given: TextInput) -> str:
        """Return a conversation in the words of the model's template, up to where the assistant goes on."""
        if self._template is None:
            raise InvalidError("This model has no chat template; send a 'prompt' instead.", param="input.messages")
        try:
            return self._template.render(
                messages=[_turn(message) for message in given.messages or ()],
                tools=_tools(given),
                documents=None,
                add_generation_prompt=True,
                **self._special,
            )
        except Exception as error:  # noqa: BLE001 - a template is somebody's program, and stumbles like one
            raise InvalidError(
                f"The model's template does not take this conversation: {error}", param="input.messages"
            ) from None


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        extensions=[loopcontrols],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return environment


def _to_json(value: object, indent: int | None = None, **_: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _turn(message: Message) -> JsonObject:
    turn: JsonObject = {"role": message.role, "content": message.text}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": call.type, "function": _called(call.function.name, call.function.arguments)}
            for call in message.tool_calls
        ]
    return turn


def _called(name: str, arguments: str) -> JsonObject:
    """Return a call as templates expect it: they write the arguments as JSON themselves."""
    try:
        return {"name": name, "arguments": json.loads(arguments)}
    except ValueError:
        return {"name": name, "arguments": arguments}


def _tools(given: TextInput) -> list[JsonObject] | None:
    if not given.tools or given.tool_choice == "none":
        return None
    return [tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in given.tools]


@contextmanager
def _naming(what: Path | str) -> Iterator[None]:
    """Say what it is that cannot be read."""
    try:
        yield
    except Exception as error:  # the tokenizers' own have no class of theirs
        raise StartError(f"{what} cannot be read: {error}. Put what came with the model there again.") from error


def _read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _read_template(folder: Path, settings: JsonObject) -> str | None:
    path = folder / TEMPLATE
    if path.is_file():
        return path.read_text()
    written = settings.get("chat_template")
    if isinstance(written, list):  # several, by name
        written = next((one["template"] for one in written if one["name"] == "default"), None)
    return written


def _token(said: object) -> str | None:
    return said["content"] if isinstance(said, dict) else said if isinstance(said, str) else None
