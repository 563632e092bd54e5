"""Catalogs of fake engines."""

from __future__ import annotations


def fake_model(alias: str, kind: str, slots: int, *, step_ms: float = 0) -> str:
    """Return a model's table in the catalog; at 0 its steps take no time at all."""
    return f"""
[models.{alias}]
kind = "{kind}"
engine = "fake"
source = "builtin"
devices = ["cpu0"]
max_in_flight = {slots}
options = {{ decode_step_ms = {step_ms} }}
"""
