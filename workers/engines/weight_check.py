"""What callers upload is computed beside what others ask: weights that end in no numbers would spoil others' answers.

A head does not show them, so they are looked at before an engine reads them.
"""

from __future__ import annotations

from collections.abc import Iterable

from safetensors import safe_open
from torch import Tensor

from schemas.errors import EngineRefusedError
from tasks.adapters import AdapterFile

LARGEST_WEIGHT = 1_000
"""Weights of real adapters are below 10."""
LARGEST_ALPHA = 65_536
ALPHA = ".alpha"


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
    for name, tensor in tensors:
        largest = LARGEST_ALPHA if name.endswith(ALPHA) else LARGEST_WEIGHT
        if not (tensor.abs() <= largest).all():
            said = f"holds weights that are no numbers, or beyond {largest:,}; train it again."
            raise EngineRefusedError(f"The adapter '{file.name}' {said}")
