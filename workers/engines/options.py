"""How an engine reads its `options` from the catalog."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from schemas.base import Strict
from schemas.catalog import Model
from schemas.errors import CatalogError
from schemas.refusals import no_such_key

Options = TypeVar("Options", bound=Strict)


def read_options(kind: type[Options], model: Model) -> Options:
    """Return a model's options, or refuse the catalog with a sentence that names the key."""
    try:
        return kind.model_validate(model.options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        is_unknown = first["type"] == "extra_forbidden"
        wrong = no_such_key(key, kind.model_fields) if is_unknown else f"{first['msg']}."
        raise CatalogError(f"The catalog's [models.{model.alias}], key 'options.{key}': {wrong}") from None
