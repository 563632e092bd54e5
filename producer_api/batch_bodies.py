"""The body of POST /v1/batches, read piece by piece where it is long: a thread that validates holds up all others."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from producer_api.batch_wishes import BatchWanted, PlainBatchWanted, PlainOptions
from schemas.base import JsonObject, Strict
from schemas.batches import PlainLine
from schemas.errors import InvalidError, MalformedError
from schemas.refusals import invalid

READ_TOGETHER = 500
INPUTS = "inputs"


class _Some(Strict):
    """Some of the inputs, by their numbers: an error names them as if all were there."""

    inputs: dict[int, PlainLine]


def read_batch(content: bytes) -> BatchWanted | PlainBatchWanted:
    """Return what is asked for, or refuse it with the name of the first wrong field."""
    try:
        said = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedError(f"The request body is not valid JSON ({error}); send one JSON object.") from None
    try:
        if isinstance(said, dict) and isinstance(said.get(INPUTS), list) and len(said[INPUTS]) > READ_TOGETHER:
            return _read_long(said)
        model = PlainBatchWanted if isinstance(said, dict) and INPUTS in said else BatchWanted
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise invalid(error) from None


def _read_long(said: JsonObject) -> PlainBatchWanted:
    lines: list[Any] = said.pop(INPUTS)
    options = PlainOptions.model_validate_json(to_json(said), strict=True)
    inputs: list[PlainLine] = []
    for first in range(0, len(lines), READ_TOGETHER):
        some = dict(enumerate(lines[first : first + READ_TOGETHER], start=first))
        inputs += _Some.model_validate({INPUTS: some}).inputs.values()  # JSON has nothing that laxness would bend here
    wanted = PlainBatchWanted.model_construct(options.model_fields_set | {INPUTS}, inputs=inputs, **dict(options))
    try:
        wanted.check_inputs()
    except ValueError as error:
        raise InvalidError(f"The request is not valid: {error}.") from None
    return wanted
