"""What callers call adapters, and which ones they mean: the catalog's, their own, everybody's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel

from schemas.catalog import Catalog, Model
from schemas.errors import InvalidError, ModelNotFoundError
from schemas.image import ImageInput
from schemas.text import TextInput
from storage import adapters
from storage.adapters import AdapterFilter
from storage.database import Database
from tasks.routing import find_variant, split_variant

LISTED = 20

Input = TypeVar("Input", bound=BaseModel)
Meanings = Mapping[str, str]
"""The ids of uploaded adapters, by the model and what somebody calls them."""


async def resolve_input(database: Database, given: Input, model: Model, caller_id: str) -> tuple[Input, list[str]]:
    """Return an input that calls its adapters by their ids, and these ids; or refuse it and list the known ones."""
    names = _names(given)
    if not names:
        return given, []
    ids = await resolve_names(database, names, model, caller_id)
    return _with_ids(given, ids), ids


def _with_ids(given: Input, ids: Sequence[str]) -> Input:
    if isinstance(given, ImageInput):
        uses = [use.model_copy(update={"id": one}) for use, one in zip(given.adapters, ids, strict=True)]
        return given.model_copy(update={"adapters": uses})
    return given.model_copy(update={"adapter": ids[0]})


def _names(given: BaseModel) -> dict[str, str]:
    """Return what an input calls its adapters, and the field of each."""
    if isinstance(given, ImageInput):
        return {use.id: f"input.adapters.{index}.id" for index, use in enumerate(given.adapters)}
    return {given.adapter: "input.adapter"} if isinstance(given, TextInput) and given.adapter is not None else {}


async def resolve_names(database: Database, names: Mapping[str, str], model: Model, caller_id: str) -> list[str]:
    """Return the ids behind ids and names, in their order. The catalog's own need no look into SQL."""
    others = [name for name in names if name not in model.adapters]
    found = {}
    if others:
        found = await database.aread(lambda c: adapters.resolve(c, caller_id, model.alias, others))
    for name in others:
        if name not in found:
            known = await known_adapters(database, model, caller_id)
            raise InvalidError(f"'{model.alias}' has no adapter '{name[:100]}'. {known}", param=names[name])
    return _distinct([found.get(name, name) for name in names])


def _distinct(ids: list[str]) -> list[str]:
    if len(set(ids)) < len(ids):
        raise InvalidError(
            "Two of the names mean the same adapter; name it once, with the strength it is to have.",
            param="input.adapters",
        )
    return ids


async def known_adapters(database: Database, model: Model, caller_id: str) -> str:
    """Return a sentence that lists a model's adapters, as far as a caller may use them."""
    wanted = AdapterFilter(caller_id, LISTED, model=model.alias)
    rows = await database.aread(lambda c: adapters.page(c, wanted))
    names = [*sorted(model.adapters), *sorted({row.name for row in rows[:LISTED]} - model.adapters.keys())]
    return _list([*names, "…"] if len(rows) > LISTED else names)


async def list_adapters(database: Database, catalog: Catalog, alias: str, caller_id: str) -> str:
    """Return a sentence that lists the adapters that a caller may use: of one model, or of all."""
    owners = [model for model in catalog.models.values() if alias in ("", model.alias)]
    wanted = AdapterFilter(caller_id, LISTED, model=alias or None)
    rows = await database.aread(lambda c: adapters.page(c, wanted))
    names = {name for model in owners for name in model.adapters} | {row.name for row in rows}
    return _list(sorted(names)) if names else "Known adapters: none."


def _list(names: Sequence[str]) -> str:
    return f"Known adapters: {', '.join(names)}." if names else "It has none."


def meaning_key(model: Model, name: str) -> str:
    """Return where in meanings a name is."""
    return f"{model.alias}:{name}"


def settle_names(given: Input, model: Model, meanings: Meanings) -> Input:
    """Return an input that calls its adapters by their ids; refuse those that neither catalog nor meanings have."""
    names = _names(given)
    for name, param in names.items():
        if name not in model.adapters and meaning_key(model, name) not in meanings:
            known = _list(sorted(model.adapters))
            raise InvalidError(f"'{model.alias}' has no adapter '{name[:100]}'. {known}", param=param)
    if all(name in model.adapters for name in names):
        return given
    return _with_ids(given, _distinct([meanings.get(meaning_key(model, name), name) for name in names]))


def finder(meanings: Meanings) -> Callable[[Catalog, str], tuple[Model, str | None]]:
    """Return what finds the `model:adapter` of the catalog and of meanings."""

    def find(catalog: Catalog, name: str) -> tuple[Model, str | None]:
        model, adapter = split_variant(catalog, name)
        is_known = adapter is not None and meaning_key(model, adapter) in meanings
        return (model, adapter) if is_known else find_variant(catalog, name)

    return find


async def check_variant(database: Database, catalog: Catalog, name: str, caller_id: str) -> None:
    """Refuse a `model:adapter` that a caller may not use, with an error that lists those of the catalog."""
    try:
        find_variant(catalog, name)
    except ModelNotFoundError:
        alias, _, adapter = name.partition(":")
        owners = await find_owners(database, catalog, adapter, caller_id) if adapter else []
        if alias not in {model.alias for model in owners}:
            raise


async def find_owners(database: Database, catalog: Catalog, name: str, caller_id: str) -> list[Model]:
    """Return the models for which an id or a name means an adapter that a caller may use."""
    found = set(await database.aread(lambda c: adapters.models_of(c, caller_id, name)))
    return [model for model in catalog.models.values() if model.alias in found or name in model.adapters]
