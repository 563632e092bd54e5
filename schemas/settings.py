"""How a package's settings are read: one frozen class each, filled from STOKER_* variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, ValidationError

from schemas.base import Strict
from schemas.errors import StartError

PREFIX = "STOKER_"


def _check_http(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        message = "it must be an address such as http://127.0.0.1:9000"
        raise ValueError(message)
    return value


HttpAddress = Annotated[str, AfterValidator(_check_http)]


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
            reason = first["msg"].removeprefix("Value error, ")
            message = f"The setting {variable} is not usable: {reason}. Correct or unset it and start again."
            raise StartError(message) from None
