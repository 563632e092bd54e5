"""How large a body may be: judged by its declared length before it is read, else by counting."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer_api.answers import error_answer
from producer_api.edge import request_id_of
from producer_api.headers import header_of
from producer_api.limits import Limit
from schemas.refusals import invalid

Body = TypeVar("Body", bound=BaseModel)


async def read_as(model: type[Body], request: Request) -> Body:
    """Read a JSON body; what is wrong with it is answered with the field's name."""
    try:
        return model.model_validate_json(await read_body(request), strict=True)
    except ValidationError as error:
        raise invalid(error) from None


def read_query(model: type[Body], request: Request) -> Body:
    """Read the parameters of a route that gets the bare request."""
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise invalid(error, "parameter") from None


async def read_body(request: Request) -> bytes:
    """Return the whole body; the framework's way through a stream costs several times this."""
    parts = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


BODY = "The request body"
PROMPT_BYTES = 64 * 2**10
"""What is no longer than this the server takes in at once, whether anybody reads it or not."""
LINGER_SECONDS, SILENT_SECONDS = 30.0, 5.0
"""How long we read on after an early answer, and how long a client may say nothing meanwhile."""


class BodyLimit:
    """Refuses bodies that are too large: by their declared length, else by counting."""

    def __init__(self, app: ASGIApp, max_bytes: int, of_path: Mapping[str, Limit]) -> None:
        self._app = app
        self._limit = Limit(max_bytes)
        self._of_path = of_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        limit = self._of_path.get(scope["path"], self._limit)
        declared = _declared_bytes(scope)
        if declared is not None and declared <= min(PROMPT_BYTES, limit.bytes):
            await self._app(scope, receive, send)
            return
        body = LongBody(receive, send, limit)
        is_refused = declared is not None and declared > limit.bytes
        app: ASGIApp = error_answer(limit.error(BODY), request_id_of(scope)) if is_refused else self._app
        await app(scope, body.receive, body.send)


class LongBody:
    """A body that is still on its way when its answer may be known.

    Who hangs up on a client that still sends takes the answer with him: so such an answer is sent, then the rest is
    read and thrown away.
    """

    __slots__ = ("_bytes", "_is_over", "_limit", "_receive", "_send")

    def __init__(self, receive: Receive, send: Send, limit: Limit) -> None:
        self._receive = receive
        self._send = send
        self._limit = limit
        self._bytes = 0
        self._is_over = False

    async def receive(self) -> Message:
        """Take what comes next; refuse to go on when it is too much."""
        message = await self._receive()
        self._is_over = not message.get("more_body")
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limit.bytes:
            raise self._limit.error(BODY)
        return message

    async def send(self, message: Message) -> None:
        """Pass an answer on; behind an early one the connection is of no more use."""
        if not self._is_over:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            elif not message.get("more_body"):
                await self._send({**message, "more_body": True})
                await self._linger()
                message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._is_sending():
                    pass

    async def _is_sending(self) -> bool:
        async with asyncio.timeout(SILENT_SECONDS):
            return bool((await self._receive()).get("more_body"))


def _declared_bytes(scope: Scope) -> int | None:
    """Return how long a body says it is; None when it does not."""
    declared = header_of(scope, b"content-length")
    if declared is None and header_of(scope, b"transfer-encoding") is None:
        return 0
    return int(declared) if declared is not None and declared.isdecimal() else None
