"""A job's input from the command line: words, standard input, JSON, or a file of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from stoker.client import StokerError

TEXT_FIELDS = {"text": "messages", "image": "prompt", "embedding": "texts"}
"""Where plain words belong in the input of a kind; `--input` may say a text's bare `prompt` instead."""


class UsageError(StokerError):
    """The command line does not say what is needed."""


def read_input(kind: str, words: list[str], given: str | None) -> dict[str, Any]:
    """Return the input that the command line means: `--input` and the words in the field of the kind."""
    read = _read_json(given) if given is not None else {}
    if not words and given is None:
        words = _read_stdin(kind)
    if not words:
        return read
    field = TEXT_FIELDS.get(kind)
    if field is None:
        raise UsageError(f"A job of the kind '{kind}' takes no plain text; say its input with --input JSON.")
    for taken in (field, "prompt"):
        if taken in read:
            raise UsageError(f"The input has '{taken}' already; leave out either that or the text.")
    return {**read, field: _said(field, words)}


def _said(field: str, words: list[str]) -> object:
    if field == "texts":
        return words
    text = " ".join(words)
    return [{"role": "user", "content": text}] if field == "messages" else text


def _read_stdin(kind: str) -> list[str]:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("There is no input: give it as text, with --input, or on standard input.")
    text = _decode(sys.stdin.buffer.read(), "Standard input").removesuffix("\n")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    words = [line for line in lines if line] if TEXT_FIELDS.get(kind) == "texts" else [text]
    if not any(words):
        raise UsageError("Standard input is empty; give the input as text, with --input, or there.")
    return words


def _read_json(given: str) -> dict[str, Any]:
    source, text = "--input", given
    if given.startswith("@"):
        source = given[1:]
        text = _decode(_read_file(source), source)
    try:
        read = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(read, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source} is not valid JSON: {error}.") from None
    if not isinstance(read, dict):
        raise UsageError(f'{source} must be a JSON object, such as {{"prompt": "Hello"}}.')
    return read


def _read_file(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.") from None


def _decode(content: bytes, source: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{source} is not UTF-8 text.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
