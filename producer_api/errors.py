"""The one place where exceptions become answers."""

from __future__ import annotations

from typing import cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from producer_api.answers import error_answer
from producer_api.edge import request_id_of
from schemas.errors import (
    CallerError,
    FaultError,
    InvalidError,
    MalformedError,
    MethodNotAllowedError,
    NotFoundError,
    StokerError,
)
from schemas.refusals import invalid, sentence
from tasks.logs import get_logger

log = get_logger(__name__)

OF_STATUS: dict[int, type[CallerError]] = {
    error.status: error for error in (MalformedError, NotFoundError, MethodNotAllowedError)
}


def handle_errors(app: FastAPI) -> None:
    """Answer every exception of this app; what nobody foresaw is the edge's."""
    app.add_exception_handler(StokerError, _ours)
    app.add_exception_handler(ValidationError, _invalid)
    app.add_exception_handler(RequestValidationError, _invalid_parameter)
    app.add_exception_handler(HTTPException, _framework)


def _ours(request: Request, error: Exception) -> Response:
    ours = cast("StokerError", error)
    if isinstance(ours, FaultError):
        log.warning("A backend is sick.", fault=type(ours).__name__, reason=repr(ours.__cause__ or ours))
    return error_answer(ours, request_id_of(request.scope))


def _invalid(request: Request, error: Exception) -> Response:
    return error_answer(invalid(cast("ValidationError", error)), request_id_of(request.scope))


def _invalid_parameter(request: Request, error: Exception) -> Response:
    """Answer for a parameter that the framework parsed."""
    first = cast("RequestValidationError", error).errors()[0]
    param = ".".join(str(part) for part in first["loc"][1:])
    ours = InvalidError(sentence(first, param, "parameter"), param=param)
    return error_answer(ours, request_id_of(request.scope))


def _framework(request: Request, error: Exception) -> Response:
    """Answer for what the router found wrong: no such address, no such method."""
    raised = cast("HTTPException", error)
    ours = OF_STATUS.get(raised.status_code, CallerError)()
    headers = {"Allow": _methods_of(request)} if isinstance(ours, MethodNotAllowedError) else raised.headers
    return error_answer(ours, request_id_of(request.scope), headers)


def _methods_of(request: Request) -> str:
    """Return what an address knows; the framework's own answer names the methods of one route only."""
    here = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in here for method in route.methods or ()}))
