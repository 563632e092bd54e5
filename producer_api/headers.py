"""The headers of a request, laid out once: the framework walks through all of them for each one that is asked for."""

from __future__ import annotations

from starlette.types import Scope


def header_of(scope: Scope, name: bytes) -> str | None:
    """Return a header by its name in small letters; the first one where it was sent several times."""
    headers = scope.get("first_headers")
    if headers is None:
        headers = scope["first_headers"] = dict(reversed(scope["headers"]))
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")
