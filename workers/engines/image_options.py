"""What the catalog may say in the `options` of an image model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.base import Strict


class ImageOptions(Strict):
    """How diffusers runs the model; what is left out suits most models on the device at hand."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    variant: str | None = Field(None, min_length=1, description="The files to take, such as `fp16`.")
    threads: int = Field(1, ge=1, description="Threads that compute; more than one only where cores are to spare.")
    max_batch: int = Field(8, ge=1, le=64, description="So many images are drawn at once, if memory allows.")
    batch_seconds: float = Field(4, gt=0, description="Batches that would take longer are made smaller.")
    gather_ms: float = Field(4, ge=0, le=1000, description="How long a first image waits for company.")
    max_resident_adapters: int = Field(8, ge=1, description="Kept in memory beside the catalog's own.")
    vae_slicing: bool = Field(default=False, description="Decode the images of a batch one by one: less memory.")
    vae_tiling: bool = Field(default=False, description="Decode large images tile by tile: less memory.")
    attention_backend: str | None = Field(None, min_length=1, description="diffusers' name, such as `flash`.")
    compile: bool = Field(default=False, description="Compile the denoiser; the first batch of each shape waits.")
    offload: Literal["none", "model", "sequential"] = Field("none", description="Keep in RAM what rests.")
    drill_batch: int | None = Field(
        None, ge=2, description="For drills: batches of so many images and more run out of memory."
    )
