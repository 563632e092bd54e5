"""However S3 is sick, callers see one error that is worth another try."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from schemas.errors import ObjectStoreFaultError
from storage.objects.s3 import S3ObjectStore
from tests.services import S3Server, run_s3

Put = Callable[[S3ObjectStore, str], object]


def put(store: S3ObjectStore, key: str) -> object:
    return store.put(key, b"x", "text/plain")


def aput(store: S3ObjectStore, key: str) -> object:
    """Put from an event loop of its own."""

    async def work() -> None:
        try:
            await store.aput(key, b"x", "text/plain")
        finally:
            await store.aclose()

    return asyncio.run(work())


PUTS = pytest.mark.parametrize("store_one", [put, aput])
CALLS: dict[str, Callable[[S3ObjectStore], object]] = {
    "put": lambda store: put(store, "a/b"),
    "aput": lambda store: aput(store, "a/b"),
    "get": lambda store: store.get("a/b"),
    "head": lambda store: store.head("a/b"),
    "delete": lambda store: store.delete(["a/b"]),
    "delete_prefix": lambda store: store.delete_prefix("a/"),
    "list": lambda store: store.list("a/", None, 10),
    "check": lambda store: store.check(),
    "ensure_bucket": lambda store: store.ensure_bucket(),
}


@contextmanager
def store_at(endpoint: str, access_key: str, secret_key: str) -> Iterator[S3ObjectStore]:
    store = S3ObjectStore("stoker", endpoint=endpoint, access_key=access_key, secret_key=secret_key)
    yield store
    store.close()


class Half(BaseHTTPRequestHandler):
    """Answers 500, but begins a good answer to a GET of an object and hangs up in its middle."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        broken = self.command == "GET" and "?" not in self.path
        self.send_response(200 if broken else 500)
        self.send_header("Content-Length", "1000" if broken else "0")
        self.end_headers()
        if broken:
            self.wfile.write(b"only this")
        self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = answer  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Moody(BaseHTTPRequestHandler):
    """Is in a bad mood for the first answer, once by 503, once by none; a proxy too, if somebody takes it for one."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[str]] = []

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(self.path)
        is_first = len(self.seen) == 1
        if is_first and "silent" in self.path:
            self.close_connection = True
            return
        self.send_response(503 if is_first else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def half_working_endpoint() -> Iterator[str]:
    with serving(Half) as endpoint:
        yield endpoint


@pytest.fixture
def moody_endpoint() -> Iterator[str]:
    Moody.seen.clear()
    with serving(Moody) as endpoint:
        yield endpoint


@PUTS
@pytest.mark.parametrize("key", ["a/refused", "a/silent"])
def test_a_put_is_sent_once_more(moody_endpoint: str, key: str, store_one: Put) -> None:
    with store_at(moody_endpoint, "key", "secret") as store:
        store_one(store, key)
    assert Moody.seen == [f"/stoker/{key}"] * 2


@PUTS
def test_a_put_takes_the_proxy_that_the_environment_names(
    moody_endpoint: str, monkeypatch: pytest.MonkeyPatch, store_one: Put
) -> None:
    monkeypatch.setenv("http_proxy", moody_endpoint)
    monkeypatch.setenv("no_proxy", "")
    with store_at("http://s3.example.com", "key", "secret") as store:
        store_one(store, "a/b")
    assert set(Moody.seen) == {"http://s3.example.com/stoker/a/b"}


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_of_500_or_half_an_answer_is_a_fault(half_working_endpoint: str, call: str) -> None:
    with store_at(half_working_endpoint, "key", "secret") as store, pytest.raises(ObjectStoreFaultError) as caught:
        CALLS[call](store)
    assert caught.value.retryable


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_key_is_a_fault_of_ours(s3_server: S3Server, call: str) -> None:
    with store_at(s3_server.endpoint, s3_server.access_key, "wrong") as store, pytest.raises(ObjectStoreFaultError):
        CALLS[call](store)


def test_a_store_that_died_is_a_fault_until_it_is_back(tmp_path: Path) -> None:
    with run_s3(tmp_path) as server, store_at(server.endpoint, server.access_key, server.secret_key) as store:
        store.put("a/b", b"kept", "text/plain")
        server.kill()
        for call in CALLS.values():
            with pytest.raises(ObjectStoreFaultError):
                call(store)
        server.start()
        assert store.get("a/b") == b"kept"


def test_a_store_that_hangs_fails_the_check(tmp_path: Path) -> None:
    with run_s3(tmp_path) as server, store_at(server.endpoint, server.access_key, server.secret_key) as store:
        store.check()
        server.pause()
        with pytest.raises(ObjectStoreFaultError):
            store.check()
        server.resume()
        store.check()
