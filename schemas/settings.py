"""How a package's settings are read: one frozen class each, filled from STOKER_* variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import ValidationError

from schemas.base import Strict
from schemas.errors import StartError

PREFIX = "STOKER_"


class Settings(Strict):
    """The base: a field `redis_url` is the variable STOKER_REDIS_URL."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings, or refuse the start with a sentence that names the variable."""
        given = {
            name: environment[PREFIX + name.upper()]
            for name in cls.model_fields
            if environment.get(PREFIX + name.upper())
        }
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            variable = PREFIX + str(first["loc"][0]).upper()
            message = f"The setting {variable} is not usable: {first['msg']}. Correct or unset it and start again."
            raise StartError(message) from None
