"""What an image job must satisfy before it may wait, and what its model makes of what it left out."""

from __future__ import annotations

import hashlib
import secrets

from schemas.catalog import Model
from schemas.errors import InvalidError
from schemas.image import SEEDS_END, ImageInput, SafetyMode, Scheduler
from tasks.safety import Guard

SEED_BYTES = 4
SEEDS = 256**SEED_BYTES
"""A chosen seed is below this, so that every language can hold it."""
LCM_STEPS = 50
"""This scheduler's steps are chosen from so many, and it fails when asked for more."""


def check_image(given: ImageInput, model: Model) -> None:
    """Refuse what this model can certainly not draw."""
    limits, filled = model.image, fill(given, model)
    width, height, steps = filled.width or 0, filled.height or 0, filled.steps or 0
    if width * height > limits.max_pixels:
        raise InvalidError(
            f"{width}x{height} are {width * height:,} pixels, and '{model.alias}' draws at most "
            f"{limits.max_pixels:,}; ask for a smaller picture.",
            param="input.width" if given.width else "input.height",
        )
    if steps > limits.max_steps:
        raise InvalidError(
            f"'steps' is {steps}, and '{model.alias}' takes at most {limits.max_steps}; ask for fewer.",
            param="input.steps",
        )
    if given.scheduler is not None and given.scheduler not in limits.schedulers:
        known = ", ".join(limits.schedulers) or "none but its own"
        raise InvalidError(
            f"'{model.alias}' does not know the scheduler '{given.scheduler}'. Known ones: {known}.",
            param="input.scheduler",
        )
    if given.scheduler is Scheduler.LCM and steps > LCM_STEPS:
        raise InvalidError(
            f"'steps' is {steps}, and the scheduler 'lcm' takes at most {LCM_STEPS}; ask for fewer, or for another "
            "scheduler.",
            param="input.steps",
        )
    if (given.seed or 0) + given.n > SEEDS_END:
        raise InvalidError(
            f"'seed' counts on from picture to picture, and the last of {given.n} would have none; send less.",
            param="input.seed",
        )
    if given.safety_mode is SafetyMode.BLOCK and not limits.safety:
        raise InvalidError(
            f"'{model.alias}' has no safety checker, so 'safety_mode' can only be 'off'; its catalog table names one "
            "with 'safety'.",
            param="input.safety_mode",
        )
    Guard(filled, model).check_prompt(given.prompt)


def fill(given: ImageInput, model: Model) -> ImageInput:
    """Return an input that leaves nothing to the model's defaults; its seed stays open."""
    own = model.image
    by_default = {
        "width": own.width,
        "height": own.height,
        "steps": own.steps,
        "guidance": own.guidance,
        "safety_mode": SafetyMode.BLOCK if own.safety else SafetyMode.OFF,
    }
    missing = {name: value for name, value in by_default.items() if getattr(given, name) is None}
    return given.model_copy(update=missing)


def settle(given: ImageInput, model: Model, seed: int) -> ImageInput:
    """Return the input as it is stored: whole, and with a seed, so that every attempt draws the same."""
    return fill(given, model).model_copy(update={"seed": seed} if given.seed is None else {})


def pixel_steps(settled: ImageInput) -> int:
    """Return what a settled input is predicted to cost: pixels, each as often as there are steps."""
    return (settled.width or 0) * (settled.height or 0) * (settled.steps or 0) * settled.n


def any_seed() -> int:
    """Choose a seed."""
    return secrets.randbelow(SEEDS)


def seed_of(line: bytes) -> int:
    """Return the seed of a batch's line that names none: the same whenever the line is read."""
    return int.from_bytes(hashlib.sha256(line).digest()[:SEED_BYTES])
