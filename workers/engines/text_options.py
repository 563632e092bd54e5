"""What the catalog may say in the `options` of a text model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.base import Strict
from schemas.catalog import Model
from schemas.errors import CatalogError
from workers.engines.options import read_options


class TextOptions(Strict):
    """How vLLM runs the model; what is left out is as vLLM has it, unless said otherwise."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: str | None = Field(None, min_length=1, description="By default what the model's files say.")
    tensor_parallel_size: int = Field(1, ge=1, description="So many GPUs share it, beginning with the placement's.")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="The share of a GPU that is taken.")
    kv_cache_gib: float | None = Field(None, gt=0, description="For what was read; by default what is left of a GPU.")
    enable_prefix_caching: bool = True
    max_num_seqs: int | None = Field(
        None, ge=1, description="So many answers grow at once; by default `max_in_flight`. The others wait inside."
    )
    max_num_batched_tokens: int | None = Field(None, ge=1, description="The largest step.")
    enforce_eager: bool | None = Field(None, description="No graphs, no compilation; by default so on a CPU only.")
    max_lora_rank: int | None = Field(None, ge=1, description="By default the largest of the catalog's adapters.")
    max_resident_adapters: int = Field(4, ge=1, description="Of callers, kept in memory beside the catalog's own.")
    tool_call_parser: str | None = Field(None, min_length=1, description="vLLM's name for how the model calls tools.")
    chat_template: str | None = Field(None, min_length=1, description="A template that beats the model's own.")
    waiting_tokens: int | None = Field(
        None, ge=1, description="The gate closes when so many wait to be read; by default twice the largest step."
    )
    schema_seconds: float = Field(5, gt=0, description="A schema that is not compiled by then is refused.")


def read_text_options(model: Model) -> TextOptions:
    """Return a model's options, or refuse the catalog where its placements get into each other's way."""
    options = read_options(TextOptions, model)
    spans = [device_span(device, options) for device in model.devices]
    if options.tensor_parallel_size > 1 and any(device.startswith("cpu") for device in model.devices):
        message = "a model is spread over GPUs only; take 'tensor_parallel_size' out, or place it on GPUs"
    elif len({number for span in spans for number in span}) < sum(map(len, spans)):
        message = (
            f"each of 'devices' stands for {options.tensor_parallel_size} GPUs, itself and the next ones, and some "
            "are taken twice; name only the first of each group"
        )
    else:
        return options
    raise CatalogError(f"The catalog's [models.{model.alias}], key 'options.tensor_parallel_size': {message}.")


def device_span(device: str, options: TextOptions) -> range:
    """Return the numbers of the devices that a placement takes."""
    first = int(device.lstrip("abcdefghijklmnopqrstuvwxyz"))
    return range(first, first + options.tensor_parallel_size)
