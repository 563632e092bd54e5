"""Which queue a job goes to: the grammar of queue names, and the choice among a model's placements."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.catalog import Catalog, Model
from schemas.errors import InvalidError, ModelNotFoundError
from schemas.jobs import Kind

WEBHOOKS = "webhooks"
MAINTENANCE = "maintenance"
SEND_TASK = "webhooks.send"
"""The task that a hint on the queue `webhooks` calls."""
SEND_WIDTH = 2
"""One such hint is enough for all that is due; a second one covers what came while the first was taken."""
BATCH_TASK = "batches.work"
"""The task that a hint on the queue `maintenance` calls when a batch was created, or has no line left."""
BATCH_WIDTH = 2
PARTS = 3
NOUNS = {Kind.TEXT: "text", Kind.IMAGE: "images", Kind.EMBEDDING: "embeddings"}


@dataclass(frozen=True, slots=True)
class Placement:
    """One model on one device: what a queue is for, and one worker process serves."""

    kind: str
    model: str
    device: str

    @property
    def queue(self) -> str:
        """Return the queue's name: `kind.model.device`."""
        return f"{self.kind}.{self.model}.{self.device}"


def parse_queue(name: str) -> Placement:
    """Return the placement behind a queue's name; ValueError when it is none."""
    parts = name.split(".")
    if len(parts) != PARTS or not all(parts):
        message = f"{name!r} is not a queue of the form kind.model.device"
        raise ValueError(message)
    return Placement(*parts)


def placements_of(model: Model) -> list[Placement]:
    """Return a model's placements, in the catalog's order."""
    return [Placement(model.kind.value, model.alias, device) for device in model.devices]


def placements(catalog: Catalog) -> list[Placement]:
    """Return every placement of the catalog."""
    return [placement for model in catalog.models.values() for placement in placements_of(model)]


def find_model(catalog: Catalog, alias: str) -> Model:
    """Return the catalog's model of that name, or an error that lists the known ones."""
    model = catalog.models.get(alias)
    if model is None:
        known = ", ".join(sorted(catalog.models))
        message = f"There is no model '{alias[:100]}'. Known models: {known}."
        raise ModelNotFoundError(message, param="model")
    return model


def split_variant(catalog: Catalog, name: str) -> tuple[Model, str | None]:
    """Return the model behind `model` or `model:adapter`, and the adapter as it is called, known or not."""
    alias, colon, adapter = name.partition(":")
    if not colon or alias not in catalog.models:
        return find_model(catalog, name), None
    return catalog.models[alias], adapter


def find_variant(catalog: Catalog, name: str) -> tuple[Model, str | None]:
    """Return the model behind `model` or `model:adapter`, and the adapter, or an error that lists the known ones."""
    model, adapter = split_variant(catalog, name)
    if adapter is not None and adapter not in model.adapters:
        alias = model.alias
        known = ", ".join((alias, *(f"{alias}:{one}" for one in sorted(model.adapters))))
        message = f"There is no model '{name[:100]}'. Known ones of that kind: {known}."
        raise ModelNotFoundError(message, param="model")
    return model, adapter


def check_kind(catalog: Catalog, model: Model, kind: Kind) -> None:
    """Refuse a model that makes something else than a door gives; the sentence lists those that would do."""
    if model.kind is not kind:
        fitting = ", ".join(sorted(one.alias for one in catalog.models.values() if one.kind is kind))
        raise InvalidError(
            f"'{model.alias}' makes {NOUNS[model.kind]}, not {NOUNS[kind]}; choose one of: {fitting}.", param="model"
        )


def must_make(model: Model, kind: Kind) -> None:
    """Refuse a kind that is not the model's."""
    if kind is not model.kind:
        raise InvalidError(
            f"The model '{model.alias}' makes {model.kind} jobs, so 'kind' must be '{model.kind}'.", param="kind"
        )


BOUND = 1.25
SLACK = 1.0
"""A placement is overloaded that has more work per slot than this much of the mean, and so much on top."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is known of a placement when a job must choose: slots of living workers, and work before it."""

    slots: int = 0
    outstanding: int = 0
    paused: bool = False
    adapters: frozenset[str] = frozenset()
    """Those that are in memory there."""


def choose(candidates: Sequence[Placement], loads: Mapping[str, Load], adapters: Sequence[str] = ()) -> Placement:
    """Return the placement with the least outstanding work per slot; one without workers or paused comes last.

    A job with adapters goes where they are in memory, or else where others with the same adapters go, until that
    placement is overloaded: bounded-load rendezvous hashing.
    """

    def load_of(placement: Placement) -> Load:
        return loads.get(placement.queue, Load())

    def work(placement: Placement) -> float:
        load = load_of(placement)
        return load.outstanding / max(1, load.slots)

    def cost(placement: Placement) -> tuple[bool, bool, float]:
        return load_of(placement).slots == 0, load_of(placement).paused, work(placement)

    best = min(candidates, key=cost)
    if not adapters:
        return best
    serving = [one for one in candidates if cost(one)[:2] == cost(best)[:2]]
    most = BOUND * sum(map(work, serving)) / len(serving) + SLACK

    def distance(placement: Placement) -> tuple[int, bytes]:
        missing = set(adapters) - load_of(placement).adapters
        said = " ".join((placement.queue, *sorted(adapters)))
        return len(missing), hashlib.sha256(said.encode()).digest()

    return min((one for one in serving if work(one) <= most), key=distance)
