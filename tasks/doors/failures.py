"""How doors say what went wrong: in OpenAI's shape, with the fields' names as its clients know them."""

from __future__ import annotations

import re

from schemas.base import JsonObject
from schemas.errors import (
    AdapterGoneError,
    ContextLengthError,
    DoorTimeoutError,
    EngineFailedError,
    EngineRefusedError,
    InputTooLongError,
    InvalidError,
    JobTimeoutError,
    MalformedError,
    ModelNotFoundError,
    StokerError,
)
from schemas.jobs import Kind
from schemas.refusals import as_public

RENAMED = {
    Kind.EMBEDDING: re.compile(r"^texts"),
    Kind.IMAGE: re.compile(r"^(width|height)$"),
}
"""What a door calls otherwise than the input of its kind."""
NAMES = {Kind.EMBEDDING: "input", Kind.IMAGE: "size"}


def door_param(param: str | None, kind: Kind = Kind.TEXT) -> str | None:
    """Return a field's name as a door knows it, whose fields are not in an `input`."""
    if param is None:
        return None
    bare = param.removeprefix("input.")
    if bare == "input" and kind is not Kind.EMBEDDING:
        return None  # something in it that only the engine saw
    if bare[:1].isdigit():
        return param  # an item of the `input` that a door has itself
    return RENAMED[kind].sub(NAMES[kind], bare) if kind in RENAMED else bare


def door_status(error: StokerError) -> int:
    """Return the status of an error's answer: OpenAI's clients expect 400 where ours get 422."""
    return MalformedError.status if error.status == InvalidError.status else error.status


def door_error(error: StokerError, request_id: str | None) -> tuple[int, JsonObject]:
    """Return the status and the body of an error's answer."""
    public = as_public(error)
    return door_status(public), public.as_wire_error(request_id)


def failure_of(error: JsonObject) -> StokerError:
    """Return what a door says of a job that failed with this error."""
    code, message = error.get("code"), error.get("message")
    if code == InputTooLongError.code:
        return ContextLengthError(message, param="input")
    if code == EngineRefusedError.code:
        return InvalidError(message, param="input")
    if code == AdapterGoneError.code:
        return ModelNotFoundError(message, param="model")  # where doors name an adapter
    return DoorTimeoutError(message) if code == JobTimeoutError.code else EngineFailedError(message)
