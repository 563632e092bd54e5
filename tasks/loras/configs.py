"""What PEFT keeps in a file beside the weights of a text adapter: made here, so that nothing in it is a surprise."""

from __future__ import annotations

import math
from collections.abc import Mapping

from schemas.errors import InvalidError
from storage.rows import to_json
from tasks.loras.matching import Fit
from tasks.loras.metadata import LARGEST_ALPHA

FILE = "adapter_config.json"
ALPHA_NAMES = ("lora_alpha", "alpha")


def text_config(fitted: Fit, alpha: float | None, metadata: Mapping[str, str]) -> str:
    """Return the file's content. Without a right alpha the adapter would work, but too strongly or too weakly."""
    if len(fitted.ranks) > 1:
        ranks = ", ".join(map(str, sorted(fitted.ranks)))
        raise InvalidError(f"Its layers have different ranks ({ranks}); a text adapter has one for all.", param="file")
    scale = _read_alpha(metadata) if alpha is None else alpha
    if scale is None:
        raise InvalidError(
            "The file does not say its alpha; send the 'lora_alpha' of the adapter's adapter_config.json as 'alpha'.",
            param="alpha",
        )
    said = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": fitted.rank,
        "lora_alpha": scale,
        "target_modules": sorted({layer.rpartition(".")[2] for layer in fitted.layers}),
        "bias": "none",
        "inference_mode": True,
    }
    return to_json(said) or ""


def _read_alpha(metadata: Mapping[str, str]) -> float | None:
    for name in ALPHA_NAMES:
        try:
            alpha = float(metadata.get(name, "nan"))
        except ValueError:
            continue
        if math.isfinite(alpha) and 0 < alpha <= LARGEST_ALPHA:
            return alpha
    return None
