"""What every schema shares: strict models and JSON types."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

JsonObject = dict[str, Any]
"""A JSON object: string keys, JSON values."""


class Strict(BaseModel):
    """A request or a setting: unknown fields are errors, NaN is no number, instances never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, serialize_by_alias=True)
