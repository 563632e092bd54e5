"""Image jobs: what goes in."""

from __future__ import annotations

from pydantic import Field

from schemas.base import Strict


class ImageInput(Strict):
    """What to draw, how large, how many."""

    prompt: str = Field(min_length=1, max_length=10_000)
    width: int = Field(64, ge=8, le=4096, multiple_of=8)
    height: int = Field(64, ge=8, le=4096, multiple_of=8)
    steps: int = Field(8, ge=1, le=500)
    n: int = Field(1, ge=1, le=16)
    seed: int | None = Field(None, ge=0, lt=2**63)
