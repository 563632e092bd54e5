"""Embedding jobs: what goes in."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from schemas.base import Strict

TEXTS_LIMIT = 2048


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class EmbeddingInput(Strict):
    """The texts to embed; a string is a list of one."""

    texts: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=TEXTS_LIMIT),
    ]
