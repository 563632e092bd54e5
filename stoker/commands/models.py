"""`stoker models`: what the catalog has, and where it runs."""

from __future__ import annotations

from stoker.client import Model
from stoker.commands.context import Context

HEADERS = ("MODEL", "KIND", "STATE", "RUNS ON", "ABOUT")


def models(context: Context) -> int:
    """List the models."""
    found = context.client.models()
    if context.wants_json:
        context.screen.json([model.raw for model in found])
        return 0
    rows = [(model.id, model.kind, state_of(model), ", ".join(_devices(model)), model.description) for model in found]
    context.screen.table(HEADERS, rows, "The catalog has no models; models.toml is where they are written.")
    return 0


def state_of(model: Model) -> str:
    """Return a model's state in one word: ready when one of its placements is."""
    states = [place["state"] for place in model.placements]
    return "ready" if "ready" in states else next(iter(states), "no_worker")


def _devices(model: Model) -> list[str]:
    return [place["device"] for place in model.placements]
