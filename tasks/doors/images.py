"""Images as OpenAI's clients ask for them, and how an image job's output answers them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, field_validator

from schemas.base import JsonObject, Strict
from schemas.catalog import Catalog, Model
from schemas.errors import ContentPolicyError, InvalidError, ModelNotFoundError
from schemas.events import Produced
from schemas.image import SIDE_LIMIT, SIDE_STEP, AdapterUse, ImageFormat, ImageInput, SafetyMode, Scheduler
from schemas.jobs import Kind
from tasks.doors.chat import Find
from tasks.routing import check_kind, find_variant

SAME = ("n", "negative_prompt", "seed", "steps", "guidance", "scheduler", "safety_mode")
"""What means the same in an image job."""
SIZE = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)
AUTO = "auto"


class ImagesRequest(Strict):
    """What OpenAI's clients send."""

    prompt: str = Field(description="What to draw.")
    model: str | None = Field(
        None, min_length=1, max_length=128, description="An image model, or `model:adapter`; need not be said of one."
    )
    n: int | None = None
    size: str | None = Field(None, max_length=32, description="`WIDTHxHEIGHT`, or `auto` for the model's own.")
    response_format: Literal["url", "b64_json"] | None = Field(None, description="`url` by default.")
    output_format: ImageFormat | None = None
    negative_prompt: str | None = Field(None, description="Not OpenAI's; send it as `extra_body`, as all up to here:")
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    scheduler: Scheduler | None = None
    adapters: list[AdapterUse] | None = None
    safety_mode: SafetyMode | None = None
    background: Literal["auto", "opaque"] | None = Field(None, description="Pictures are opaque.")
    stream: bool | None = Field(None, description="Not supported; a native job's events have previews.")
    partial_images: int | None = Field(None, description="Not supported.")
    quality: str | None = Field(None, description="Accepted and ignored.")
    style: str | None = Field(None, description="Accepted and ignored.")
    moderation: str | None = Field(None, description="Accepted and ignored; see `safety_mode`.")
    output_compression: int | None = Field(None, description="Accepted and ignored.")
    user: str | None = Field(None, description="Accepted and ignored.")
    safety_identifier: str | None = Field(None, description="Accepted and ignored.")

    @field_validator("size")
    @classmethod
    def _size_is_one(cls, value: str | None) -> str | None:
        if value in (None, AUTO):
            return None
        match = SIZE.fullmatch(str(value))
        if match is None or not all(_is_side(int(side)) for side in match.groups()):
            message = f"write WIDTHxHEIGHT, both multiples of {SIDE_STEP} up to {SIDE_LIMIT}, or 'auto'"
            raise ValueError(message)
        return value


def _is_side(pixels: int) -> bool:
    return 0 < pixels <= SIDE_LIMIT and pixels % SIDE_STEP == 0


def read_images(wanted: ImagesRequest, catalog: Catalog, find: Find = find_variant) -> tuple[Model, ImageInput]:
    """Return the model that is asked and what it is asked; `find` says which adapters there are."""
    model, adapter = find(catalog, wanted.model or only_model(catalog))
    check_kind(catalog, model, Kind.IMAGE)
    for name in ("stream", "partial_images"):
        if getattr(wanted, name):
            raise InvalidError(f"'{name}' is not supported here; take it out.", param=name)
    given = {name: getattr(wanted, name) for name in SAME if getattr(wanted, name) is not None}
    width, height = map(int, wanted.size.split("x")) if wanted.size else (None, None)
    own = [AdapterUse(id=adapter)] if adapter else []
    return model, ImageInput(
        prompt=wanted.prompt,
        width=width,
        height=height,
        adapters=[*own, *(wanted.adapters or [])],
        format=wanted.output_format or ImageFormat.PNG,
        **given,
    )


def only_model(catalog: Catalog) -> str:
    """Return the one model that is meant when none is named."""
    able = sorted(model.alias for model in catalog.models.values() if model.kind is Kind.IMAGE)
    if len(able) != 1:
        known = f"choose one of: {', '.join(able)}" if able else "the catalog has no image model"
        raise ModelNotFoundError(f"The field 'model' is missing; {known}.", param="model")
    return able[0]


def as_images(created_at: float, pictures: Sequence[JsonObject], output: JsonObject) -> JsonObject:
    """Return an answer; it says so when pictures are missing from it."""
    answer = {"created": int(created_at), "data": list(pictures)}
    return {**answer, "safety": output["safety"]} if output["safety"]["blocked"] else answer


def names_of(output: JsonObject) -> list[str]:
    """Return the names of a job's pictures, in their order, without those that were blocked."""
    return [image["name"] for image in output["images"] if image["name"]]


def must_have_pictures(output: JsonObject) -> None:
    """Refuse to answer with nothing: every picture was blocked."""
    if not names_of(output):
        why = "; ".join({image["blocked"] for image in output["images"] if image.get("blocked")})
        raise ContentPolicyError(
            f"Every picture was blocked by the safety checker '{output['safety']['checker']}' ({why}). Ask for "
            "something else.",
            param="prompt",
        )


def as_base64(content: bytes) -> JsonObject:
    """Return a picture as part of the answer."""
    return {"b64_json": base64.b64encode(content).decode()}


def read_images_line(wanted: ImagesRequest, catalog: Catalog, find: Find) -> tuple[Model, ImageInput]:
    """Read the body of a batch's line, whose pictures are in its answer."""
    if wanted.response_format == "url":
        raise InvalidError(
            "The lines of a batch have no links to their pictures; leave 'response_format' out, or send 'b64_json'.",
            param="response_format",
        )
    return read_images(wanted, catalog, find)


def images_of_line(created_at: float, output: JsonObject, produced: Sequence[Produced]) -> JsonObject:
    """Return the answer to a batch's line."""
    made: Mapping[str, bytes] = {one.name: one.content for one in produced}
    return as_images(created_at, [as_base64(made[name]) for name in names_of(output)], output)
