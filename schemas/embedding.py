"""Embedding jobs: what goes in."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from schemas.base import Strict

TEXTS_LIMIT = 2048
DIMENSIONS_LIMIT = 65_536


class Truncate(StrEnum):
    """What to do with a text that is longer than the model can read."""

    ERROR = "error"
    END = "end"


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class EmbeddingInput(Strict):
    """The texts to embed; a string is a list of one."""

    texts: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=TEXTS_LIMIT),
    ]
    dimensions: int | None = Field(
        None, ge=1, le=DIMENSIONS_LIMIT, description="Shorter vectors, where the model is made for them."
    )
    normalize: bool = Field(True, description="Scale each vector to length one.")  # noqa: FBT003 - pydantic's way
    truncate: Truncate = Field(
        Truncate.ERROR, description="A text that is too long: refuse the job, or read the text's beginning."
    )
