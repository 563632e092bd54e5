"""The description of the HTTP interface: what the framework cannot see of routes that take the bare request."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from producer_api.admission import KEY_CHARACTERS, REQUEST
from producer_api.documents import ErrorAnswer
from schemas.base import JsonObject
from schemas.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    IdempotencyMismatchError,
    InvalidError,
    MalformedError,
    ModelNotFoundError,
    NotFoundError,
    StokerError,
    TooLargeError,
    TooManyError,
    UnauthenticatedError,
    UnavailableError,
    UrlRefusedError,
)

REFERENCE = "#/components/schemas/{model}"
INVALID_BY_FRAMEWORK = "HTTPValidationError"
SECURITY = {"key": {"type": "http", "scheme": "bearer", "description": "An API key: `sk-stoker-…`."}}

Responses = dict[int | str, dict[str, Any]]


def answers(status: int, good: type[BaseModel], *bad: type[StokerError]) -> Responses:
    """Return a route's answers: the good one and the errors."""
    return {**shape(good, status), **errors(*bad)}


def shape(model: type[BaseModel], status: int = 200) -> Responses:
    """Return a good answer."""
    return {status: {"model": model, "description": (model.__doc__ or "").strip()}}


def errors(*own: type[StokerError]) -> Responses:
    """Return a route's errors: those of its own, and those that every call may get."""
    said: dict[int, list[str]] = {}
    every: tuple[type[StokerError], ...] = (*own, UnauthenticatedError, ForbiddenError, InvalidError, UnavailableError)
    for error in every:
        said.setdefault(error.status, []).append(f"`{error.code}`: {error.sentence}")
    return {
        code: {"model": ErrorAnswer, "description": " ".join(sentences)} for code, sentences in sorted(said.items())
    }


def door_errors(*own: type[StokerError]) -> Responses:
    """Return the errors of an OpenAI-compatible route: what is 422 elsewhere is 400 there."""
    said = errors(*own)
    invalid = said.pop(InvalidError.status)
    malformed = said.get(MalformedError.status, invalid)
    said[MalformedError.status] = {**malformed, "description": f"{malformed['description']} {invalid['description']}"}
    return dict(sorted(said.items(), key=lambda item: int(item[0])))


SUBMIT_ERRORS = (
    MalformedError,
    ModelNotFoundError,
    GoneError,
    TooLargeError,
    IdempotencyMismatchError,
    UrlRefusedError,
    TooManyError,
)
RETRY_ERRORS = (NotFoundError, ModelNotFoundError, ConflictError, GoneError, IdempotencyMismatchError, TooManyError)


def header(name: str, does: str, schema: JsonObject) -> JsonObject:
    """Return a header that a route reads by itself."""
    return {"name": name, "in": "header", "description": does, "schema": schema}


def query(model: type[BaseModel]) -> JsonObject:
    """Return the parameters of a route that reads its query by itself, from the model that it reads it with."""
    fields = model.model_json_schema()["properties"].items()
    return {
        "parameters": [
            {"name": name, "in": "query", "description": said.pop("description"), "schema": said}
            for name, said in fields
        ]
    }


PREFER = header(
    "Prefer",
    "`wait=N`: wait up to N seconds (60 at most) for the job's end.",
    {"type": "string", "example": "wait=30"},
)
IDEMPOTENCY_KEY = header(
    "Idempotency-Key",
    "The same key with the same body makes one job, batch or file, for at least a day.",
    {"type": "string", "maxLength": KEY_CHARACTERS},
)
WAIT = {
    "name": "wait",
    "in": "query",
    "description": "Like `Prefer: wait=N`.",
    "schema": {"type": "number", "minimum": 0, "maximum": 60},
}
CALLER = {"name": "caller", "in": "query", "description": "Another caller; for admins.", "schema": {"type": "string"}}

EXAMPLES: JsonObject = {
    "text": {
        "summary": "Generate text",
        "value": {
            "kind": "text",
            "model": "chat",
            "input": {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 64},
        },
    },
    "image": {
        "summary": "Draw an image",
        "value": {"kind": "image", "model": "sketch", "input": {"prompt": "a red circle", "width": 64, "height": 64}},
    },
    "embedding": {
        "summary": "Embed texts, with low priority",
        "value": {
            "kind": "embedding",
            "model": "minilm",
            "input": {"texts": ["Good morning", "Good night"]},
            "policy": {"priority": "low", "ttl_seconds": 3600},
            "metadata": {"run": "nightly"},
        },
    },
}


def body(model: str, examples: JsonObject) -> JsonObject:
    """Return the description of a JSON body."""
    schema = {"$ref": REFERENCE.format(model=model)}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


SUBMITTING = [PREFER, WAIT, IDEMPOTENCY_KEY]
SUBMIT = {"requestBody": body("JobRequest", EXAMPLES), "parameters": SUBMITTING}
LOOK = {"parameters": [PREFER, WAIT, CALLER]}
RETRY = {"parameters": SUBMITTING}
OPEN: JsonObject = {"security": []}


def operation_id(route: APIRoute) -> str:
    """Name an operation after its function, so that generated clients read well."""
    return route.name


def describe(app: FastAPI, *bodies: type[BaseModel]) -> None:
    """Have an app describe itself whole: with the bodies that its routes read themselves, and with its keys."""

    def openapi() -> JsonObject:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes),
                bodies,
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the framework's documented way


def _complete(described: JsonObject, bodies: tuple[type[BaseModel], ...]) -> JsonObject:
    components = described["components"]
    for operations in described["paths"].values():
        for operation in operations.values():
            if INVALID_BY_FRAMEWORK in str(operation["responses"].get("422")):  # doors say 400, and in our shape
                del operation["responses"]["422"]
    for name in (INVALID_BY_FRAMEWORK, "ValidationError"):
        components["schemas"].pop(name, None)
    shapes = {"JobRequest": REQUEST.json_schema(ref_template=REFERENCE)}
    shapes |= {one.__name__: one.model_json_schema(ref_template=REFERENCE) for one in bodies}
    for name, schema in shapes.items():
        components["schemas"] |= {**schema.pop("$defs", {}), name: schema}
    components["schemas"] = dict(sorted(components["schemas"].items()))
    components["securitySchemes"] = SECURITY
    return {**described, "security": [{"key": []}]}
