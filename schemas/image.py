"""Image jobs: what goes in, what a model makes of what was left out, and what comes out."""

from __future__ import annotations

from enum import StrEnum
from typing import NotRequired, TypedDict

from pydantic import Field, field_validator

from schemas.base import Strict

PROMPT_CHARACTERS = 10_000
IMAGES_LIMIT = 16
ADAPTERS_LIMIT = 8
SIDE_LIMIT = 4096
SIDE_STEP = 8
"""Widths and heights are multiples of this."""
STEPS_LIMIT = 500
STRONGEST = 2.0
SEEDS_END = 2**63
"""Seeds are below this."""


class Scheduler(StrEnum):
    """How a picture is brought out of the noise; the pipeline knows which of them fit its model."""

    EULER = "euler"
    EULER_A = "euler_a"
    DDIM = "ddim"
    DPM = "dpm++"
    UNIPC = "unipc"
    LCM = "lcm"


class ImageFormat(StrEnum):
    """How a picture is written."""

    PNG = "png"
    JPEG = "jpeg"

    @property
    def content_type(self) -> str:
        """Return what browsers call it."""
        return f"image/{self.value}"

    @property
    def ending(self) -> str:
        """Return what the names of its files end in."""
        return "jpg" if self is ImageFormat.JPEG else self.value


class SafetyMode(StrEnum):
    """What is done about prompts and pictures that should not be."""

    OFF = "off"
    BLOCK = "block"


class AdapterUse(Strict):
    """An adapter, and how much of it."""

    id: str = Field(min_length=1, max_length=128)
    strength: float = Field(1.0, ge=0, le=STRONGEST, description="0 is the model without it.")


class ImageInput(Strict):
    """What to draw, how large, how many. What is left out the model's own defaults decide."""

    prompt: str = Field(min_length=1, max_length=PROMPT_CHARACTERS)
    negative_prompt: str = Field("", max_length=PROMPT_CHARACTERS, description="What should not be in the picture.")
    width: int | None = Field(None, ge=SIDE_STEP, le=SIDE_LIMIT, multiple_of=SIDE_STEP)
    height: int | None = Field(None, ge=SIDE_STEP, le=SIDE_LIMIT, multiple_of=SIDE_STEP)
    steps: int | None = Field(None, ge=1, le=STEPS_LIMIT)
    guidance: float | None = Field(None, ge=0, le=30, description="How closely the prompt is followed.")
    seed: int | None = Field(
        None, ge=0, lt=SEEDS_END, description="Of the first picture, the next ones count on; by default a random one."
    )
    n: int = Field(1, ge=1, le=IMAGES_LIMIT, description="How many pictures.")
    scheduler: Scheduler | None = None
    adapters: list[AdapterUse] = Field(default_factory=list, max_length=ADAPTERS_LIMIT)
    format: ImageFormat = ImageFormat.PNG
    safety_mode: SafetyMode | None = Field(None, description="By default `block` where the model has a checker.")

    @field_validator("adapters")
    @classmethod
    def _adapters_are_distinct(cls, value: list[AdapterUse]) -> list[AdapterUse]:
        if len({use.id for use in value}) < len(value):
            message = "an adapter is named twice; name it once, with the strength it is to have"
            raise ValueError(message)
        return value


class ImageDefaults(Strict):
    """What an image model does when a job leaves it out, and how much it may be asked for."""

    width: int = Field(512, ge=SIDE_STEP, le=SIDE_LIMIT, multiple_of=SIDE_STEP)
    height: int = Field(512, ge=SIDE_STEP, le=SIDE_LIMIT, multiple_of=SIDE_STEP)
    max_pixels: int = Field(1024 * 1024, ge=SIDE_STEP**2, description="Of one picture: width x height.")
    steps: int = Field(25, ge=1, le=STEPS_LIMIT)
    max_steps: int = Field(100, ge=1, le=STEPS_LIMIT)
    guidance: float = Field(7.0, ge=0, le=30)
    schedulers: list[Scheduler] = Field(default_factory=lambda: list(Scheduler), description="Which may be asked for.")
    preview_every: int = Field(4, ge=0, description="Steps between two previews; 0 for none.")
    safety: str = Field("", description="The checker of prompts and pictures: `basic`, or `package.module:name`.")


class ImageMade(TypedDict):
    """One picture of a job. One that was blocked has no name, because there is no such artifact."""

    name: str | None
    seed: int
    width: int
    height: int
    blocked: NotRequired[str]


class SafetyReport(TypedDict):
    """What was looked at, by whom."""

    mode: str
    checker: str | None
    blocked: int
