"""The schedulers that a job may ask for, each made from the settings that the pipeline came with."""

from __future__ import annotations

from functools import wraps
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
        self.estimate: Any = None
        """The latents that the last step was heading for: what the picture would be without any more steps."""
        self._own = own
        self._made: dict[str | None, Any] = {None: self._watch(own)}
        self.names = ("euler",) if _is_flow(own) else tuple(CLASSES)

    def get(self, name: str | None) -> Any:
        """Return a scheduler by its name, or the pipeline's own."""
        if name is not None and name not in self._made:
            is_own = _is_flow(self._own)
            self._made[name] = (
                self._own if is_own else self._watch(getattr(diffusers, CLASSES[name]).from_config(self._own.config))
            )
        return self._made[name]

    def _watch(self, scheduler: Any) -> Any:
        """Have a scheduler's steps leave their estimate here; pipelines take the next latents and drop it."""
        step = scheduler.step

        @wraps(step)
        def watched(output: Any, *arguments: Any, **options: Any) -> Any:
            made = step(output, *arguments, **options)
            self.estimate = _estimate(scheduler, output, made)
            return made

        scheduler.step = watched
        return scheduler


def _is_flow(scheduler: Any) -> bool:
    return type(scheduler).__name__ == FLOW


def _estimate(scheduler: Any, output: Any, made: Any) -> Any:
    if len(made) > 1:
        return made[1]
    if _is_flow(scheduler):
        return made[0] - scheduler.sigmas[scheduler.step_index] * output
    config = scheduler.config  # solvers of several steps keep what they made of the last outputs: estimates, usually
    keeps_estimates = config.get("predict_x0") or "++" in config.get("algorithm_type", "")
    return scheduler.model_outputs[-1] if keeps_estimates else made[0]


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
