"""A door in front of the S3 server that can answer 500 to everything for a while."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from stoker.ports import free_port

REFUSAL_BODY = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>Broken on purpose.</Message></Error>"
REFUSAL = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(REFUSAL_BODY), REFUSAL_BODY)
)
CHUNK_BYTES = 64 * 1024
CLOSE_SECONDS = 2.0


class SickDoor:
    """Passes bytes on unread while it is well; answers each request with 500 while it is sick."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.refused: list[str] = []
        """The method and path of each request that got a 500."""
        self._target_port = target_port
        self._is_sick = False
        self._passing: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self._close_passing()
        if self._serving:  # the S3 server waits for its connections to end
            await asyncio.wait(self._serving, timeout=CLOSE_SECONDS)

    def fall_sick(self) -> None:
        """Answer 500 from now on; connections that were being passed on are cut, as a crash would."""
        self._is_sick = True
        self._close_passing()

    def get_well(self) -> None:
        """Pass everything on again."""
        self._is_sick = False

    def _close_passing(self) -> None:
        for writer in self._passing:
            writer.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            if self._is_sick:
                await self._refuse(reader, writer)
            else:
                await self._pass_on(reader, writer)
        writer.close()

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.refused.append(" ".join(head.decode("latin-1").split(maxsplit=2)[:2]))
        writer.write(REFUSAL)
        await writer.drain()
        writer.write_eof()
        with contextlib.suppress(TimeoutError):  # a body that nobody reads would turn our answer into a reset
            async with asyncio.timeout(1):
                while await reader.read(CHUNK_BYTES):
                    pass

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._passing |= {writer, far_writer}
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            self._passing -= {writer, far_writer}
            far_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()
