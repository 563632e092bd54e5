"""Reads models.toml; a mistake in it stops the start with a sentence that says where and what."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.catalog import Adapter, Catalog, Model
from schemas.errors import CatalogError
from schemas.image import ImageDefaults
from schemas.refusals import no_such_key

TABLE, IMAGE = "models", "image"


class CatalogFile:
    """A catalog that is read again when its file has changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._catalog = Catalog(models={})

    def read(self) -> Catalog:
        """Return the catalog as the file has it now."""
        stamp = _stamp(self._path)
        if stamp is None or stamp != self._stamp:
            self._catalog, self._stamp = read_catalog(self._path), stamp
        return self._catalog


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        seen = Path(path).stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


def read_catalog(path: str) -> Catalog:
    """Read and validate a catalog file."""
    tables = _read_tables(path)
    return Catalog(models={alias: _read_model(path, alias, table) for alias, table in tables.items()})


def _read_tables(path: str) -> dict[str, Any]:
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        message = f"The catalog {path} cannot be read ({error.strerror}); create it or set STOKER_CATALOG to its path."
        raise CatalogError(message) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"The catalog {path} is not valid TOML: {error}."
        raise CatalogError(message) from None
    unknown = sorted(content.keys() - {TABLE})
    if unknown:
        message = f"The catalog {path} has an unknown table [{unknown[0]}]; models are tables named [models.ALIAS]."
        raise CatalogError(message)
    tables = content.get(TABLE, {})
    if not isinstance(tables, dict) or not tables:
        message = f"The catalog {path} has no model; add a table such as [models.my-model]."
        raise CatalogError(message)
    return tables


def _read_model(path: str, alias: str, table: object) -> Model:
    if not isinstance(table, dict):
        message = f"The catalog {path} has models.{alias} as a value; write a table [models.{alias}] with its keys."
        raise CatalogError(message)
    if "alias" in table:
        message = f"The catalog {path}, table [models.{alias}], key 'alias': the table's name is the alias."
        raise CatalogError(message)
    try:
        return Model.model_validate({"alias": alias, **table})
    except ValidationError as error:
        found = error.errors(include_url=False)
        first = min(found, key=lambda one: one["type"] != "extra_forbidden")  # what is misspelt is missing, too
        key = ".".join(str(part) for part in first["loc"])
        wrong = _no_such_key(key) if first["type"] == "extra_forbidden" else f"{first['msg']}."
        message = f"The catalog {path}, table [models.{alias}], key '{key}': {wrong}"
        raise CatalogError(message) from None


def _no_such_key(key: str) -> str:
    """Say what may have been meant; keys of a table within the table are told by their own names."""
    table, _, last = key.rpartition(".")
    fields = ImageDefaults.model_fields if table == IMAGE else Adapter.model_fields if table else Model.model_fields
    return no_such_key(last, (name for name in fields if name != "alias"))
