"""Files: what they are for and how long they are kept."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from schemas.base import Strict

JSON_LINES = "application/jsonl"
"""What every file holds until there are purposes for others."""
DAY_SECONDS = 86_400


class Purpose(StrEnum):
    """What a file is for."""

    BATCH = "batch"
    BATCH_OUTPUT = "batch_output"


class ExpiresAfter(Strict):
    """When a file expires."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=30 * DAY_SECONDS)
