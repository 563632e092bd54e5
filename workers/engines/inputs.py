"""How an engine reads what a job gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from schemas.base import JsonObject
from schemas.errors import EngineRefusedError
from tasks.engine import EngineRequest

Input = TypeVar("Input")


def read_input(request: EngineRequest, read: Callable[[JsonObject], Input]) -> Input:
    """Return a request's input as its engine wants it, or refuse it with the first thing that is wrong."""
    try:
        return read(request.input)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise EngineRefusedError(f"The input does not fit the kind '{request.kind}': {first['msg']}.") from None
