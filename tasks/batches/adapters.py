"""The uploaded adapters that a batch's lines name: what each name means is settled when the batch is validated.

Whoever deletes or renames one afterwards changes no batch that has begun: its meaning is stored beside the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import from_json, to_json

from schemas.base import JsonObject
from schemas.catalog import Model
from schemas.errors import NotFoundError
from storage import adapters
from storage.database import Database
from storage.objects.port import ObjectStore, meanings_key
from tasks.adapter_names import Meanings, meaning_key

JSON = "application/json"


class Namings:
    """Which adapters the lines of one batch name, and what its caller means by that. It blocks."""

    def __init__(self, database: Database, caller_id: str) -> None:
        self._database = database
        self._caller_id = caller_id
        self._found: dict[str, str | None] = {}

    def note(self, model: Model, body: JsonObject, variant: str | None) -> None:
        """Look up what a line names and the catalog does not have."""
        for name in (*_names_in(body), *([variant] if variant else [])):
            key = meaning_key(model, name)
            if name not in model.adapters and key not in self._found:
                found = self._database.read(
                    lambda c, name=name: adapters.resolve(c, self._caller_id, model.alias, [name])  # type: ignore[misc]  # bound
                )
                self._found[key] = found.get(name)

    @property
    def meanings(self) -> dict[str, str]:
        """Return the ids of those that there are."""
        return {key: adapter_id for key, adapter_id in self._found.items() if adapter_id is not None}

    def store(self, objects: ObjectStore, batch_id: str) -> None:
        """Write the meanings down for those who run the lines, where there are any."""
        if self.meanings:
            objects.put(meanings_key(batch_id), to_json(self.meanings), JSON)


def _names_in(body: JsonObject) -> Iterator[str]:
    """Yield what a line's body calls adapters, whatever else is wrong with it."""
    given: Any = body.get("input") if isinstance(body.get("input"), dict) else body
    if isinstance(given.get("adapter"), str):
        yield given["adapter"]
    uses = given.get("adapters")
    for use in uses if isinstance(uses, list) else []:
        if isinstance(use, dict) and isinstance(use.get("id"), str):
            yield use["id"]


def read_meanings(objects: ObjectStore, batch_id: str) -> Meanings:
    """Return what was settled for a batch; nothing when its lines name no uploaded adapter."""
    try:
        meanings: Mapping[str, str] = from_json(objects.get(meanings_key(batch_id)))
    except NotFoundError:
        return {}
    return meanings
