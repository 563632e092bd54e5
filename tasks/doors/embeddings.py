"""Embeddings as OpenAI's clients ask for them, and how an embedding job's output answers them."""

from __future__ import annotations

import base64
import struct
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from schemas.base import JsonObject, Strict
from schemas.catalog import Catalog, Model
from schemas.embedding import DIMENSIONS_LIMIT, TEXTS_LIMIT, EmbeddingInput, Truncate
from schemas.jobs import Kind
from tasks.routing import check_kind, find_model


class EncodingFormat(StrEnum):
    """How vectors are written."""

    FLOAT = "float"
    BASE64 = "base64"


def _as_texts(value: object) -> object:
    if isinstance(value, list) and any(isinstance(item, int | list) for item in value):
        message = "token arrays are not read here; send the text itself, as a string or a list of strings"
        raise ValueError(message)
    return [value] if isinstance(value, str) else value


class EmbeddingsRequest(Strict):
    """What OpenAI's clients send."""

    model: str = Field(min_length=1, max_length=128)
    input: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        BeforeValidator(_as_texts, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=TEXTS_LIMIT),
    ]
    encoding_format: EncodingFormat = EncodingFormat.FLOAT
    dimensions: int | None = Field(None, ge=1, le=DIMENSIONS_LIMIT)
    truncate: Truncate = Field(Truncate.ERROR, description="Not OpenAI's: what happens to texts that are too long.")
    user: str | None = Field(None, description="Accepted and ignored.")


def read_embeddings(wanted: EmbeddingsRequest, catalog: Catalog) -> tuple[Model, EmbeddingInput]:
    """Return the model that is asked and what it is asked."""
    model = find_model(catalog, wanted.model)
    check_kind(catalog, model, Kind.EMBEDDING)
    return model, EmbeddingInput(texts=wanted.input, dimensions=wanted.dimensions, truncate=wanted.truncate)


def as_list(wanted: EncodingFormat, model: str, output: JsonObject, used: JsonObject) -> JsonObject:
    """Return an answer; thousands of vectors take a while."""
    read = used.get("prompt_tokens", 0)
    write = _as_base64 if wanted is EncodingFormat.BASE64 else list
    vectors: list[Any] = [write(vector) for vector in output["embeddings"]]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(vectors)],
        "model": model,
        "usage": {"prompt_tokens": read, "total_tokens": read},
    }


def _as_base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
