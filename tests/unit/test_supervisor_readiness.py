"""When a part counts as ready: real answers on loopback, good and bad."""

import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from stoker import readiness
from stoker.parts import Ready
from stoker.ports import free_port
from stoker.readiness import is_ready

NO_FILE = Path("/no/such/file")


class Server(socketserver.TCPServer):
    """Gives everyone the same answer, or with None never one, and remembers the first line of what was asked."""

    def __init__(self, answer: bytes | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.asked = b""
        self.is_over = threading.Event()
        self.ports = {"api": self.server_address[1]}


class Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        self.server.asked = self.rfile.readline()
        if self.server.answer is None:
            self.server.is_over.wait()
        else:
            with suppress(ConnectionError):
                self.wfile.write(self.server.answer)


@contextmanager
def server(answer: bytes | None) -> Iterator[Server]:
    with Server(answer) as made, ThreadPoolExecutor(1) as pool:
        pool.submit(made.serve_forever, poll_interval=0.01)
        yield made
        made.is_over.set()
        made.shutdown()


@pytest.mark.parametrize(
    ("kind", "answer", "expected"),
    [
        ("http", b"HTTP/1.1 200 OK\r\n\r\n", True),
        ("http", b"HTTP/1.1 503 Service Unavailable, not 200 yet\r\n\r\n", False),
        ("http", b"", False),
        ("http", b"200 " * 100_000, False),
        ("redis", b"+PONG\r\n", True),
        ("redis", b"-LOADING Redis is loading the dataset in memory\r\n", False),
        ("s3", b"HTTP/1.0 403 Forbidden\r\n", True),
        ("s3", b"", False),
    ],
)
async def test_what_the_answer_says(kind: str, answer: bytes, *, expected: bool) -> None:
    with server(answer) as made:
        assert await is_ready(Ready(kind), made.ports, NO_FILE) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"+OK\r\n+PONG\r\n", True),
        (b"+OK\r\n-LOADING Redis is loading the dataset in memory\r\n", False),
        (b"-WRONGPASS invalid username-password pair\r\n-NOAUTH Authentication required.\r\n", False),
    ],
)
async def test_a_redis_with_a_password_is_asked_with_it(answer: bytes, *, expected: bool) -> None:
    with server(answer) as made:
        assert await is_ready(Ready("redis", password="word"), made.ports, NO_FILE) is expected
    assert made.asked == b"AUTH word\r\n"


async def test_silence_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 0.05)
    with server(None) as made:
        assert not await is_ready(Ready("http"), made.ports, NO_FILE)


async def test_nobody_there_is_not_ready() -> None:
    assert not await is_ready(Ready("http"), {"api": free_port()}, NO_FILE)


async def test_the_path_is_asked_for() -> None:
    with server(b"HTTP/1.1 200 OK\r\n\r\n") as made:
        assert await is_ready(Ready("http", "/healthcheck"), made.ports, NO_FILE)
    assert made.asked == b"GET /healthcheck HTTP/1.1\r\n"


async def test_a_file_is_ready_when_it_is_there(tmp_path: Path) -> None:
    file = tmp_path / "ready"
    assert not await is_ready(Ready("file"), {}, file)
    file.touch()
    assert await is_ready(Ready("file"), {}, file)
