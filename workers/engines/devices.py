"""Where and in which numbers torch computes, by the catalog's names."""

from __future__ import annotations

import torch

CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def find_device(name: str) -> torch.device | None:
    """Return the device of a placement, if this machine has it: `cpu0` is the CPU, `gpu1` the second GPU."""
    kind, number = name.rstrip("0123456789"), int(name.lstrip("abcdefghijklmnopqrstuvwxyz"))
    if kind == CPU.type:
        return CPU
    if torch.cuda.is_available() and number < torch.cuda.device_count():
        return torch.device("cuda", number)
    if torch.backends.mps.is_available() and number == 0:
        return torch.device("mps")
    return None
