"""How large a body may be: judged by its declared length before it is read, else by counting."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer_api.answers import error_answer, invalid
from producer_api.edge import request_id_of
from schemas.errors import TooLargeError

Body = TypeVar("Body", bound=BaseModel)


async def read_as(model: type[Body], request: Request) -> Body:
    """Read a JSON body; what is wrong with it is answered with the field's name."""
    try:
        return model.model_validate_json(await request.body(), strict=True)
    except ValidationError as error:
        raise invalid(error) from None


class BodyLimit:
    """Refuses bodies that are too large, after reading some of them: clients see no answer while they send."""

    def __init__(self, app: ASGIApp, max_bytes: int, drain_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._drain_bytes = drain_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) <= self._max_bytes:
            await self._app(scope, self._counting(receive), send)
            return
        drained = int(declared) <= self._drain_bytes and await self._drain(receive, 0)
        headers = None if drained else {"Connection": "close"}
        await error_answer(self._error(), request_id_of(scope), headers)(scope, receive, send)

    def _counting(self, receive: Receive) -> Receive:
        """Return a receive that refuses to go on when the body grows too large."""
        read_bytes = 0

        async def receive_counted() -> Message:
            nonlocal read_bytes
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if read_bytes > self._max_bytes:
                if message.get("more_body"):
                    await self._drain(receive, read_bytes)
                raise self._error()
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

    def _error(self) -> TooLargeError:
        limit = f"{self._max_bytes / 2**20:g} MiB"
        return TooLargeError(f"The request body is larger than {limit}; send less at once.")
