"""The schedulers that a job may ask for, each made from the settings that the pipeline came with."""

from __future__ import annotations

from typing import Any

import diffusers

CLASSES = {
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "lcm": "LCMScheduler",
}
FLOW = "FlowMatchEulerDiscreteScheduler"
"""Families that learned to follow a flow (Flux, SD 3) take this one only, which is Euler's method."""


class Schedulers:
    """Those that fit a pipeline; each is made once, and each batch begins it anew."""

    def __init__(self, own: Any) -> None:
        self._made: dict[str | None, Any] = {None: own}
        self.names = ("euler",) if type(own).__name__ == FLOW else tuple(CLASSES)

    def get(self, name: str | None) -> Any:
        """Return a scheduler by its name, or the pipeline's own."""
        if name is not None and name not in self._made:
            own = self._made[None]
            is_flow = type(own).__name__ == FLOW
            self._made[name] = own if is_flow else getattr(diffusers, CLASSES[name]).from_config(own.config)
        return self._made[name]


def keep_rows(scheduler: Any, rows: list[int], count: int) -> None:
    """Have a scheduler forget all other rows of a batch of so many: some keep what they said in the last steps."""
    for name, value in vars(scheduler).items():
        if _is_batch(value, count):
            setattr(scheduler, name, value[rows])
        elif isinstance(value, list):
            value[:] = [one[rows] if _is_batch(one, count) else one for one in value]


def _is_batch(value: Any, count: int) -> bool:
    """Say whether something has a row for each image; what else a scheduler has are curves."""
    return getattr(value, "ndim", 0) > 1 and len(value) == count
