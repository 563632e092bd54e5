"""A line from one event loop to an HTTP server: short requests over kept connections, without a thread for each.

For a small object a thread's wake-ups, and its turns at the interpreter, cost four times what the request does.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

CONNECT_SECONDS, READ_SECONDS = 2.0, 10.0
UNWELL = frozenset({500, 502, 503, 504})
HEAD_END = b"\r\n\r\n"
FINAL = 200  # what comes below it announces another answer
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_LAST = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)


class Answer(NamedTuple):
    """What the server said."""

    status: int
    said: bytes
    is_last: bool
    """The connection cannot be asked again."""


class _Connection(asyncio.Protocol):
    """A connection that is asked one thing at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._heard = b""
        self._answer: asyncio.Future[Answer] | None = None
        self.is_open = True

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for its answer."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._answer = answer
        self._transport.write(request)
        timer = loop.call_later(READ_SECONDS, self._give_up)
        try:
            return await answer
        finally:
            timer.cancel()

    def close(self) -> None:
        """Close it at once, whatever is under way."""
        self.is_open = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport  # type: ignore[assignment]  # that of a stream, as everywhere

    def connection_lost(self, exc: Exception | None) -> None:
        """End; whoever waits for an answer hears of it."""
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"the connection was closed before the answer: {exc}"))

    def data_received(self, data: bytes) -> None:
        """Take the next piece of an answer; nobody asked for anything else."""
        self._heard += data
        if self._answer is None or self._answer.done():
            self.close()
            return
        try:
            answer = self._read()
        except ValueError:  # it does not speak HTTP
            self.close()
        else:
            if answer is not None:
                self._heard = b""
                self._answer.set_result(answer)

    def _give_up(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(TimeoutError(f"no answer within {READ_SECONDS:g} seconds"))

    def _read(self) -> Answer | None:
        """Return the answer once it is whole. One whose length is not told is cut: its status is all that counts."""
        head, is_whole, said = self._heard.partition(HEAD_END)
        if not is_whole:
            return None
        status = _STATUS.match(head)
        if status is None:
            raise ValueError("it does not begin as HTTP does")
        if int(status[1]) < FINAL:
            self._heard = said
            return self._read()
        length = _LENGTH.search(head)
        if length is not None and len(said) < int(length[1]):
            return None
        is_last = length is None or head.startswith(b"HTTP/1.0") or _LAST.search(head) is not None
        return Answer(int(status[1]), said, is_last)


class HttpLine:
    """Kept connections to one server; it belongs to the event loop in which it is first asked."""

    def __init__(self, endpoint: str, certificates: str | None, most: int) -> None:
        parts = urlsplit(endpoint)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context(cafile=certificates) if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._free: list[_Connection] = []
        self._room = asyncio.Semaphore(most)

    async def put(self, address: str, headers: dict[str, str], content: bytes) -> Answer:
        """Send content, once more when the connection broke or the server has a bad moment; else OSError."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"PUT {address.removeprefix(self._origin)} HTTP/1.1\r\n{lines}content-length: {len(content)}\r\n\r\n"
        request = head.encode("latin-1") + content
        async with self._room:
            try:
                answer = await self._ask(request)
            except OSError:
                return await self._ask(request)
            return await self._ask(request) if answer.status in UNWELL else answer

    async def aclose(self) -> None:
        """Close the connections."""
        while self._free:
            self._free.pop().close()
        await asyncio.sleep(0)  # they close in the loop's next round

    async def _ask(self, request: bytes) -> Answer:
        connection = await self._connect()
        try:
            answer = await connection.ask(request)
        except BaseException:
            connection.close()  # its answer, if one comes, is for nobody
            raise
        if answer.is_last:
            connection.close()
        else:
            self._free.append(connection)
        return answer

    async def _connect(self) -> _Connection:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
        async with asyncio.timeout(CONNECT_SECONDS):
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        return connection
