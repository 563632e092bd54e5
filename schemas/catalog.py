"""The catalog's types: what models there are, where they run and how."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from schemas.base import JsonObject, Strict
from schemas.image import ImageDefaults
from schemas.jobs import Kind

Alias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$")]
"""A model's name in addresses and queues."""

Device = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,16}[0-9]{1,4}$")]
"""Where a worker runs: cpu0, gpu0, …"""

IMAGE_ADAPTER_RANK = 128


class Adapter(Strict):
    """A small set of weights that changes a model's manner."""

    source: str = Field(min_length=1, description="A local path, a hub id or an s3:// address.")
    description: str = ""


class Model(Strict):
    """One model of the catalog."""

    alias: Alias
    kind: Kind
    engine: str = Field(min_length=1)
    source: str = Field(min_length=1, description="A hub id, a local path or an s3:// address.")
    revision: str = "main"
    devices: list[Device] = Field(min_length=1)
    max_in_flight: int = Field(8, ge=1, le=4096)
    interactive_reserve: int | None = Field(
        None, ge=0, description="How many of `max_in_flight` batches leave to jobs; an eighth when unset."
    )
    context_length: int = Field(4096, ge=1)
    dimensions: list[int] = Field(
        default_factory=list, description="The vector lengths that callers may ask an embedding model for."
    )
    timeout_seconds: float = Field(600, gt=0, le=86_400)
    adapters: dict[Alias, Adapter] = Field(default_factory=dict, description="What callers may name in `adapter`.")
    max_adapter_rank: int | None = Field(
        None,
        ge=0,
        le=512,
        description="Of what callers upload; 0: nothing. By default 128 for image models, else 0.",
    )
    sla_ttft_ms: float = Field(2000, gt=0, description="A first token within this time counts as good.")
    image: ImageDefaults = Field(ImageDefaults(), description="Sizes, steps and limits of an image model.")
    preload: bool = True
    warm_up: JsonObject | None = Field(None, description="An input of the model's kind that is run once at start.")
    languages: list[str] = Field(default_factory=list)
    description: str = ""
    options: JsonObject = Field(default_factory=dict, description="What only this engine understands.")

    @property
    def reserve(self) -> int:
        """Return how many requests at once are kept for jobs."""
        return max(1, self.max_in_flight // 8) if self.interactive_reserve is None else self.interactive_reserve

    @property
    def uploaded_rank(self) -> int:
        """Return the largest rank of an adapter that callers may upload; 0 where they may upload none."""
        if self.max_adapter_rank is not None:
            return self.max_adapter_rank
        return IMAGE_ADAPTER_RANK if self.kind is Kind.IMAGE else 0

    @field_validator("devices")
    @classmethod
    def _devices_are_distinct(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            message = "a device is named twice; one device has one worker and one queue"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _images_are_for_image_models(self) -> Self:
        if self.kind is not Kind.IMAGE and self.image != ImageDefaults():
            message = f"a table 'image' says how pictures are made, and a {self.kind} model makes none; take it out"
            raise ValueError(message)
        return self


class Catalog(Strict):
    """All models, by alias."""

    models: dict[str, Model]
