"""How large a body may be: judged by its declared length before it is read, else by counting."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
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
LINGER_SECONDS, SILENT_SECONDS = 30.0, 5.0
"""How long we read on after a refusal, and how long a client may say nothing meanwhile."""


class BodyLimit:
    """Refuses bodies that are too large, after reading some of them: clients see no answer while they send."""

    def __init__(self, app: ASGIApp, max_bytes: int, drain_bytes: int, of_path: Mapping[str, Limit]) -> None:
        self._app = app
        self._limit = Limit(max_bytes)
        self._drain_bytes = drain_bytes
        self._of_path = of_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        limit = self._of_path.get(scope["path"], self._limit)
        declared = header_of(scope, b"content-length") or "0"
        if not declared.isdecimal() or int(declared) <= limit.bytes:
            await self._app(scope, self._counting(receive, limit), send)
            return
        if int(declared) <= self._drain_bytes and await self._drain(receive, 0):
            await error_answer(limit.error(BODY), request_id_of(scope))(scope, receive, send)
        else:
            answer = error_answer(limit.error(BODY), request_id_of(scope), {"Connection": "close"})
            await _answer_and_linger(answer, scope, receive, send)

    def _counting(self, receive: Receive, limit: Limit) -> Receive:
        """Return a receive that refuses to go on when the body grows too large."""
        read_bytes = 0

        async def receive_counted() -> Message:
            nonlocal read_bytes
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if read_bytes > limit.bytes:
                if message.get("more_body"):
                    await self._drain(receive, read_bytes)
                raise limit.error(BODY)
            return message

        return receive_counted

    async def _drain(self, receive: Receive, read_bytes: int) -> bool:
        """Read the rest of a body; False when it goes on for too long."""
        while read_bytes <= self._drain_bytes:
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if not message.get("more_body"):
                return True
        return False


async def _answer_and_linger(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, then go on reading for a while: who hangs up on a client that still sends takes the answer with him."""

    async def send_open(message: Message) -> None:
        is_body = message["type"] == "http.response.body"
        await send({**message, "more_body": True} if is_body else message)

    await answer(scope, receive, send_open)
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while await _is_sending(receive):
                pass
    await send({"type": "http.response.body", "body": b""})


async def _is_sending(receive: Receive) -> bool:
    async with asyncio.timeout(SILENT_SECONDS):
        return bool((await receive()).get("more_body"))
