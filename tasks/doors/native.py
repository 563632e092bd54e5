"""Batches in our own words: each line asks for what `POST /v1/jobs` would make a job of."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from schemas.base import JsonObject, Strict
from schemas.catalog import Catalog, Model
from schemas.embedding import EmbeddingInput
from schemas.events import Produced
from schemas.image import ImageInput
from schemas.jobs import Kind
from schemas.text import TextInput
from tasks.inputs import Input
from tasks.routing import find_model, must_make


class Asked(Strict):
    """What every line says."""

    model: str = Field(min_length=1, max_length=128)


class TextAsked(Asked):
    """A line that asks for text."""

    kind: Literal[Kind.TEXT]
    input: TextInput


class ImageAsked(Asked):
    """A line that asks for images."""

    kind: Literal[Kind.IMAGE]
    input: ImageInput


class EmbeddingAsked(Asked):
    """A line that asks for embeddings."""

    kind: Literal[Kind.EMBEDDING]
    input: EmbeddingInput


NativeRequest = Annotated[TextAsked | ImageAsked | EmbeddingAsked, Field(discriminator="kind")]


def read_native(wanted: TextAsked | ImageAsked | EmbeddingAsked, catalog: Catalog) -> tuple[Model, Input]:
    """Return the model that is asked and what it is asked."""
    model = find_model(catalog, wanted.model)
    must_make(model, wanted.kind)
    return model, wanted.input


def as_result(model: Model, output: JsonObject, used: JsonObject, produced: Sequence[Produced] = ()) -> JsonObject:
    """Return an answer; what the engine made beside its output is in it, because a line has no objects of its own."""
    answer = {"kind": model.kind.value, "model": model.alias, "output": output, "usage": used}
    files = [
        {"name": one.name, "content_type": one.content_type, "base64": base64.b64encode(one.content).decode()}
        for one in produced
    ]
    return {**answer, "artifacts": files} if files else answer
