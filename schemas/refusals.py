"""How callers are told that something cannot be: what pydantic found in a sentence, and what of our own errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas.errors import (
    DoorTimeoutError,
    EngineFailedError,
    FaultError,
    InternalError,
    InvalidError,
    MalformedError,
    StokerError,
    UnavailableError,
)
from schemas.jobs import Kind

SHOWN = (UnavailableError, EngineFailedError, DoorTimeoutError)
"""Those of our own errors that callers may know."""
NAME_CHARACTERS = 120
HALVES = ("unexpected end of hex escape", "lone leading surrogate")
HALF = "there is half a character, as where a string was cut in the middle of an emoji: cut between characters"
"""JavaScript's strings are cut like that, and its JSON passes the half on."""


def as_public(error: StokerError) -> StokerError:
    """Return what a caller may know: what a sick backend said stays in the log."""
    if isinstance(error, FaultError):
        return UnavailableError()
    return error if error.status < InternalError.status or isinstance(error, SHOWN) else InternalError()


def invalid(error: ValidationError, noun: str = "field") -> StokerError:
    """Return the error that names the first wrong field of a request, and says how many more there are."""
    found = error.errors(include_url=False, include_input=False, include_context=True)
    first = found[0]
    if first["type"] == "json_invalid":
        reason = first["ctx"]["error"]
        advice = HALF if any(said in reason for said in HALVES) else "send one JSON object"
        return MalformedError(f"The request body is not valid JSON ({reason}); {advice}.")
    param = field_name(error, first)
    others = f" ({len(found) - 1} more after it)" if len(found) > 1 else ""
    if param is not None:
        return InvalidError(sentence(first, param, noun) + others, param=param)
    if first["type"] == "value_error":  # about several fields together
        return InvalidError(f"The request is not valid: {_reason(first)}." + others)
    return MalformedError("The request body must be one JSON object.")


def field_name(error: ValidationError, details: ErrorDetails) -> str | None:
    """Return the field's name as the caller wrote it: `input.messages.0.role`."""
    if details["type"].startswith("union_tag"):
        return "kind"
    # What is in brackets tells shapes apart and is no name of a field, unless the caller made it up.
    *inner, last = [str(part)[:NAME_CHARACTERS] for part in details["loc"]] or [""]
    parts = [part for part in inner if not part.startswith("[")]
    if not last.startswith("[") or details["type"] == "extra_forbidden":
        parts.append(last)
    if error.title.startswith("tagged-union"):
        parts = parts[1:]  # the union's own tag
    return ".".join(parts) or None


def no_such_key(key: str, known: Iterable[str]) -> str:
    """Say that a table has no such key, and which may have been meant."""
    names = list(known)
    near = difflib.get_close_matches(key, names, n=1)
    meant = f"; did you mean '{near[0]}'?" if near else "."
    return f"There is no such key{meant} Known keys: {', '.join(names)}."


def no_such(noun: str, name: str) -> str:
    """Say that nothing of this name is known here."""
    return f"There is no {noun} '{name}' here; take it out."


def sentence(details: ErrorDetails, param: str, noun: str = "field") -> str:
    """Say what is wrong with a field and what to do."""
    if details["type"] == "extra_forbidden":
        return no_such(noun, param)
    if details["type"] in ("missing", "union_tag_not_found"):
        return f"The {noun} '{param}' is missing; add it."
    if details["type"] == "union_tag_invalid":
        return f"The field 'kind' must be one of {', '.join(Kind)}; batches are made with POST /v1/batches."
    return f"The {noun} '{param}' is not valid: {_reason(details)}."


def _reason(details: ErrorDetails) -> str:
    message = details["msg"].removeprefix("Value error, ")
    return message[0].lower() + message[1:]
