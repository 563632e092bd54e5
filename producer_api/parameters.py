"""Query parameters: one that a route does not know is refused by its name, whichever way the route reads them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from producer_api.doors import DoorRoute, refusal
from schemas.errors import InvalidError
from schemas.refusals import NAME_CHARACTERS, no_such


def refuse_unknown_parameters(routes: Iterable[BaseRoute]) -> None:
    """Have each route look at its query before anything else does."""
    for route in routes:
        known = _known(route) if isinstance(route, APIRoute) else None
        if isinstance(route, APIRoute) and known is not None:
            route.app = Checked(route.app, known, is_door=isinstance(route, DoorRoute))


class Checked:
    """A route that knows these parameters only."""

    def __init__(self, app: ASGIApp, known: frozenset[str], *, is_door: bool) -> None:
        self._app = app
        self._known = known
        self._is_door = is_door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        unknown = self._unknown(scope["query_string"].decode("latin-1")) if scope["query_string"] else None
        if unknown is None:
            await self._app(scope, receive, send)
            return
        error = InvalidError(no_such("parameter", unknown), param=unknown)
        if not self._is_door:
            raise error
        await refusal(error, Request(scope, receive))(scope, receive, send)

    def _unknown(self, query: str) -> str | None:
        names = (name for name, _ in parse_qsl(query, keep_blank_values=True))
        return next((name[:NAME_CHARACTERS] for name in names if name not in self._known), None)


def _known(route: APIRoute) -> frozenset[str] | None:
    """Return what a route describes, None when it has a model that looks for itself."""
    fields = get_flat_dependant(route.dependant).query_params
    if any(_is_model(field.field_info.annotation) for field in fields):
        return None
    described = (route.openapi_extra or {}).get("parameters", [])
    return frozenset((*(one.alias for one in fields), *(one["name"] for one in described if one["in"] == "query")))


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
