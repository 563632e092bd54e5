"""From what a caller wants of a text to vLLM's words for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

from schemas.text import ResponseFormat, SchemaFormat, TextInput
from workers.engines.pacing import AT_ONCE, EACH

LIKELIEST: Mapping[str, Any] = {"temperature": 1.0, "top_k": 1, "top_p": 1.0, "min_p": 0.0}
"""What temperature 0 means, in words that vLLM takes for several answers, too."""


def sampling(given: TextInput, max_tokens: int, defaults: Mapping[str, Any], **more: Any) -> SamplingParams:
    """Return vLLM's parameters; what the caller leaves open is as the model's makers advise in `defaults`."""
    wishes = {
        "temperature": given.temperature,
        "top_p": given.top_p,
        "top_k": given.top_k,
        "min_p": given.min_p,
    }
    asked = {name: value for name, value in wishes.items() if value is not None}
    advised = {name: defaults[name] for name in (*wishes, "repetition_penalty") if name in defaults}
    chosen = {**advised, **asked}
    if given.n > 1 and chosen.get("temperature") == 0:
        chosen |= LIKELIEST
    return SamplingParams(
        **chosen,
        n=given.n,
        max_tokens=max_tokens,
        presence_penalty=given.presence_penalty,
        frequency_penalty=given.frequency_penalty,
        seed=given.seed,
        stop=given.stop,
        output_kind=RequestOutputKind.DELTA,
        stream_interval=EACH if given.stream else AT_ONCE,
        skip_clone=True,
        **more,
    )


def structure(wanted: ResponseFormat | None) -> StructuredOutputsParams | None:
    """Return what an answer is held to while it is written."""
    if isinstance(wanted, SchemaFormat):
        return StructuredOutputsParams(json=wanted.json_schema.json_schema)
    if wanted is not None and wanted.type == "json_object":
        return StructuredOutputsParams(json_object=True)
    return None
