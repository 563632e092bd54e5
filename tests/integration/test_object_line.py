"""The line to an object store, asked through a server that speaks HTTP in every way that servers do."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from storage.objects import line as lines
from storage.objects.line import HttpLine
from tests.certificates import make_authority

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEADERS = {"host": "s3.test", "x-one": "1"}


class Server:
    """Answers each request with what `say` returns, piece by piece; None hangs up, nothing keeps silent."""

    def __init__(self, say: Callable[[int], list[bytes] | None]) -> None:
        self.say = say
        self.heard: list[bytes] = []
        self.connections = 0
        self.was_asked = asyncio.Event()

    @asynccontextmanager
    async def serve(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=tls)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                self.heard.append(head + await reader.readexactly(length))
                self.was_asked.set()
                pieces = self.say(len(self.heard))
                if pieces is None:
                    return
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.005)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def line_to(server: Server, most: int = 4) -> AsyncIterator[HttpLine]:
    async with server.serve() as port:
        line = HttpLine(f"http://127.0.0.1:{port}", certificates=None, most=most)
        yield line
        await line.aclose()


async def test_requests_share_connections_and_say_what_was_asked() -> None:
    server = Server(lambda _: [GOOD])
    async with line_to(server, most=2) as line:
        answers = await asyncio.gather(*(line.put(f"/b/{number}", HEADERS, b"bytes") for number in range(10)))
    assert {(answer.status, answer.said) for answer in answers} == {(200, b"ok")}
    assert server.connections == 2
    first = b"PUT /b/0 HTTP/1.1\r\nhost: s3.test\r\nx-one: 1\r\ncontent-length: 5\r\n\r\nbytes"
    assert first in server.heard


@pytest.mark.parametrize(
    ("pieces", "said", "connections"),
    [
        ([GOOD[:9], GOOD[9:30], GOOD[30:]], b"ok", 1),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD], b"ok", 1),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: Close\r\n\r\n"], b"", 2),
        ([b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"], b"", 2),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"], None, 2),
    ],
    ids=["in pieces", "after a 100", "closing", "of old", "chunked"],
)
async def test_every_way_to_answer_is_understood(pieces: list[bytes], said: bytes | None, connections: int) -> None:
    server = Server(lambda _: pieces)
    async with line_to(server) as line:
        for _ in range(2):
            answer = await line.put("/b/k", HEADERS, b"x")
            assert answer.status == 200
            assert said in {None, answer.said}
    assert server.connections == connections


@pytest.mark.parametrize(
    "bad",
    [None, [b"what do you want?\r\n\r\n"], [b"HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n"]],
    ids=["hangs up", "no HTTP", "a bad moment"],
)
async def test_a_bad_answer_is_asked_about_once_more(bad: list[bytes] | None) -> None:
    server = Server(lambda number: [GOOD] if number > 1 else bad)
    async with line_to(server) as line:
        assert (await line.put("/b/k", HEADERS, b"x")).status == 200
    assert len(server.heard) == 2


async def test_a_server_that_keeps_silent_is_given_up_and_never_asked_there_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(lambda number: [GOOD] if number > 2 else [])
    async with line_to(server) as line:
        with monkeypatch.context() as impatient:
            impatient.setattr(lines, "READ_SECONDS", 0.05)
            with pytest.raises(TimeoutError):
                await line.put("/b/k", HEADERS, b"x")
        assert (await line.put("/b/k", HEADERS, b"y")).said == b"ok"
    assert server.connections == 3


async def test_who_is_cancelled_leaves_no_answer_to_the_next() -> None:
    server = Server(lambda number: [GOOD] if number > 1 else [])
    async with line_to(server) as line:
        asking = asyncio.create_task(line.put("/b/k", HEADERS, b"x"))
        await server.was_asked.wait()
        asking.cancel()
        await asyncio.wait([asking])
        assert (await line.put("/b/k", HEADERS, b"y")).said == b"ok"
    assert server.connections == 2


async def test_it_trusts_whom_it_is_told_to(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "ca")
    async with Server(lambda _: [GOOD]).serve(authority.serve_as("localhost")) as port:
        trusting = HttpLine(f"https://localhost:{port}", str(authority.file), most=1)
        assert (await trusting.put("/b/k", HEADERS, b"x")).status == 200
        await trusting.aclose()
        with pytest.raises(ssl.SSLCertVerificationError):
            await HttpLine(f"https://localhost:{port}", certificates=None, most=1).put("/b/k", HEADERS, b"x")
