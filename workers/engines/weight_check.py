"""What callers upload is computed beside what others ask: weights that end in no numbers would spoil others' answers.

A head does not show them, so they are looked at before an engine reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from safetensors import safe_open
from torch import Tensor

from schemas.errors import EngineRefusedError
from tasks.adapters import AdapterFile
from tasks.loras.configs import FILE
from tasks.loras.metadata import LARGEST_ALPHA

LARGEST_WEIGHT = 1_000
"""Weights of real adapters are below 10."""
LARGEST_CHANGE = 10_000
"""Of a layer, as its two matrices' norms and their scale multiplied: real adapters, ours and those that PEFT begins
with, stay below 100. From 150 on our demo model writes gibberish, from some 100 million on nothing at all."""
ALPHA = ".alpha"
UPS = {".lora_B.": ".lora_A.", ".up.weight": ".down.weight", ".lora_up.": ".lora_down."}
"""What tells the second matrix of a layer, and what the first one has in its place."""


def check_weights(file: AdapterFile) -> None:
    """Refuse an uploaded adapter that holds infinities, what is no number, or numbers beyond all reason."""
    if file.is_catalog:
        return
    with safe_open(file.path, "pt") as opened:
        check_tensors(file, ((name, opened.get_tensor(name)) for name in opened.keys()))  # noqa: SIM118 - it is no mapping


def check_tensors(file: AdapterFile, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Do the same with what was read of it."""
    if file.is_catalog:
        return
    norms: dict[str, float] = {}
    for name, tensor in tensors:
        largest = LARGEST_ALPHA if name.endswith(ALPHA) else LARGEST_WEIGHT
        if not (tensor.abs() <= largest).all():
            said = f"holds weights that are no numbers, or beyond {largest:,}; train it again."
            raise EngineRefusedError(f"The adapter '{file.name}' {said}")
        norms[name] = tensor.float().norm().item()
    if _largest_change(norms) * _scale(file) > LARGEST_CHANGE:
        said = "would change the model beyond all reason, so that it answers with noise or nothing"
        raise EngineRefusedError(f"The adapter '{file.name}' {said}; look at its alpha, or train it again.")


def _largest_change(norms: Mapping[str, float]) -> float:
    pairs = ((name, name.replace(up, down)) for name in norms for up, down in UPS.items() if up in name)
    return max((norms[up] * norms.get(down, 0.0) for up, down in pairs), default=0.0)


def _scale(file: AdapterFile) -> float:
    """Return by what a text adapter's changes are multiplied; those of image adapters come with their weights."""
    beside = file.path.parent / FILE
    if not beside.is_file():
        return 1.0
    said: Mapping[str, Any] = json.loads(beside.read_text())
    return float(said["lora_alpha"]) / float(said["r"])
