"""What the catalog may say in the `options` of a text model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.base import Strict


class TextOptions(Strict):
    """How vLLM runs the model; what is left out is as vLLM has it, unless said otherwise."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: str | None = Field(None, min_length=1, description="By default what the model's files say.")
    tensor_parallel_size: int = Field(1, ge=1, description="So many devices share it, the placement's first.")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="The share of a GPU that is taken.")
    kv_cache_gib: float | None = Field(None, gt=0, description="For what was read; by default what is left of a GPU.")
    enable_prefix_caching: bool = True
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
