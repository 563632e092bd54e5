"""What diffusers writes into a LoRA's head beside its tensors: the engine follows it, so it is judged with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from schemas.errors import InvalidError
from tasks.loras.header import MEND

KEY = "lora_adapter_metadata"
LARGEST_ALPHA = 65_536


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Refuse an adapter whose settings no image could be drawn with."""
    if KEY not in metadata:
        return
    try:
        said = from_json(metadata[KEY])
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise InvalidError(f"The file's '{KEY}' is not a JSON object; {MEND}.", param="file")
    for name, value in said.items():
        _check(name.rpartition(".")[2], value)


def _check(setting: str, value: Any) -> None:
    if setting == "use_dora" and value:
        raise InvalidError("It is a DoRA, which is not taken here; train a plain LoRA.", param="file")
    if setting == "alpha_pattern" and not (isinstance(value, dict) and all(map(_is_alpha, value.values()))):
        raise InvalidError(f"Its '{KEY}' has an 'alpha_pattern' that is no table of numbers; {MEND}.", param="file")
    if setting == "lora_alpha" and not _is_alpha(value):
        raise InvalidError(
            f"Its '{KEY}' has a 'lora_alpha' that is no number up to {LARGEST_ALPHA:,}; {MEND}.", param="file"
        )


def _is_alpha(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= LARGEST_ALPHA
