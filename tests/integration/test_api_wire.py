"""Requests that no HTTP client sends: what has no end is refused before it fills the memory."""

import contextlib
import socket
from urllib.parse import urlsplit

import pytest

from tests.integration.api_server import PATIENCE_SECONDS, ApiServer
from tests.integration.house import Standing

MIB = 2**20
HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2"
ENDLESS = {
    "address": (b"GET /", b"a" * 16_384),
    "one header": (HEAD + b"X: ", b"a" * 16_384),
    "many headers": (HEAD, b"X: y\r\n" * 2_000),
    "chunk extension": (CHUNKED + b";", b"a" * 16_384),
    "trailers": (CHUNKED + b"\r\n{}\r\n0\r\n", b"X: y\r\n" * 2_000),
}


@pytest.fixture
def server(on_sqlite: Standing) -> ApiServer:
    """A server that has other things to do as well."""
    return on_sqlite.server


def taken_of(server: ApiServer, begin: bytes, piece: bytes) -> int:
    """Send without end; how much was taken."""
    address = urlsplit(server.url)
    taken = 0
    connecting = socket.create_connection((address.hostname, address.port), PATIENCE_SECONDS)
    with connecting as connection, contextlib.suppress(ConnectionError):
        connection.sendall(begin)
        while taken < 64 * MIB:
            connection.sendall(piece)
            taken += len(piece)
    return taken


def test_what_has_no_end_is_cut_off(server: ApiServer) -> None:
    for name, (begin, piece) in ENDLESS.items():
        before = server.process.memory_info().rss
        assert taken_of(server, begin, piece) < 32 * MIB, name
        assert server.process.memory_info().rss < before + 32 * MIB, name


def test_a_head_that_comes_in_pieces_is_read(server: ApiServer) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), PATIENCE_SECONDS) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
        for number in range(30):
            connection.sendall(b"X-%d: %b\r\n" % (number, b"a" * 1000))
        connection.sendall(b"\r\n")
        with connection.makefile("rb") as answer:
            assert answer.read().endswith(b'{"status":"live"}')
