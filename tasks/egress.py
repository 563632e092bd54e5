"""The way out: every request that a caller's URL makes us send goes through here, and only here.

A name is looked up once and the connection goes to the addresses that were judged, so an answer that changes between
check and connect changes nothing. Redirects are answers, proxies of the environment are unknown, time and size are
bounded, certificates are verified.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import certifi
import httpcore

from schemas.errors import StartError, UrlRefusedError
from tasks.addresses import Address, Rules, Target, read_address

LOOKUP_THREADS = 64
LOOKUP_SECONDS = 5.0
CONNECT_SECONDS = 5.0
ADDRESSES_TRIED = 3
KEPT_ORIGINS = 256
KEPT_CONNECTIONS = 8
KEPT_SECONDS = 10.0
USER_AGENT = b"Stoker"

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


class UnreachableError(Exception):
    """Nobody answered, or not in a way that counts; the message may be shown to the caller."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver answered; `body` holds as much as was asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool


@dataclass(slots=True)
class _Line:
    """The connections to one origin, and how many requests use them."""

    pool: httpcore.AsyncConnectionPool
    users: int = 0


class Egress:
    """Sends requests to URLs of callers, from one event loop."""

    def __init__(self, rules: Rules, *, ca_file: str | None = None, resolve: Resolve | None = None) -> None:
        self.rules = rules
        self._context = _trust(ca_file)
        self._lookups = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="dns")
        self._door = GuardedDoor(rules, resolve or self._look_up)
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._closing: set[asyncio.Future[None]] = set()

    async def send(
        self,
        method: str,
        target: Target,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        seconds: float,
        max_bytes: int,
    ) -> Reply:
        """Send one request and read up to so many bytes of the answer, all within so many seconds."""
        request = _request(method, target, headers, body)
        with _in_words(seconds):
            async with asyncio.timeout(seconds):
                return await self._exchange(self._line(target), request, max_bytes)

    async def fetch(self, url: str, *, seconds: float, max_bytes: int) -> Reply:
        """Get what is behind a caller's URL, whole or not at all; only a 2xx counts."""
        reply = await self.send("GET", self.rules.check(url), {}, seconds=seconds, max_bytes=max_bytes)
        _check_status(reply.status)
        if not reply.is_whole:
            raise UnreachableError(f"It is larger than {max_bytes:,} bytes.")
        return reply

    async def stream(self, url: str, *, seconds: float) -> AsyncGenerator[bytes, None]:
        """Yield what is behind a caller's URL as it comes; only a 2xx counts. Whoever reads it counts its bytes."""
        target = self.rules.check(url)
        line = self._line(target)
        line.users += 1
        try:
            with _in_words(seconds):
                async with asyncio.timeout(seconds):
                    response = await line.pool.handle_async_request(_request("GET", target, {}, b""))
                    try:
                        _check_status(response.status)
                        async for chunk in response.aiter_stream():
                            yield chunk
                    finally:
                        await response.aclose()
        finally:
            line.users -= 1

    async def aclose(self) -> None:
        """Close every connection."""
        await asyncio.gather(*self._closing, *(line.pool.aclose() for line in self._lines.values()))
        self._lines.clear()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def _exchange(self, line: _Line, request: httpcore.Request, max_bytes: int) -> Reply:
        line.users += 1
        try:
            return await self._read(await line.pool.handle_async_request(request), max_bytes)
        finally:
            line.users -= 1

    async def _read(self, response: httpcore.Response, max_bytes: int) -> Reply:
        try:
            content, is_whole = b"", True
            async for chunk in response.aiter_stream():
                content += chunk
                if len(content) > max_bytes:
                    content, is_whole = content[:max_bytes], False
                    break
        finally:
            await response.aclose()
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return Reply(response.status, headers, content, is_whole)

    def _line(self, target: Target) -> _Line:
        """Return an origin's own connections; those that were not used for long are given up."""
        line = self._lines.pop(target.origin, None)
        if line is None:
            pool = httpcore.AsyncConnectionPool(
                ssl_context=self._context,
                max_connections=None,
                max_keepalive_connections=KEPT_CONNECTIONS,
                keepalive_expiry=KEPT_SECONDS,
                network_backend=self._door,
            )
            line = _Line(pool)
        self._lines[target.origin] = line
        if len(self._lines) > KEPT_ORIGINS:
            self._give_up_one(line)
        return line

    def _give_up_one(self, new: _Line) -> None:
        for origin, line in self._lines.items():
            if not line.users and line is not new:
                del self._lines[origin]
                closing = asyncio.ensure_future(line.pool.aclose())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
                return

    async def _look_up(self, host: str, port: int) -> Sequence[Address]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._lookups, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        addresses = [read_address(str(one[4][0])) for one in found]
        if None in addresses:
            raise UrlRefusedError(f"The host '{host}' has an address with a zone, so it is not contacted.")
        return list(dict.fromkeys(address for address in addresses if address is not None))


def _request(method: str, target: Target, headers: Mapping[str, str], body: bytes) -> httpcore.Request:
    url = httpcore.URL(
        scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
    )
    said = {"Host": target.authority, "Accept-Encoding": "identity", "Content-Length": str(len(body)), **headers}
    lines = [(b"User-Agent", USER_AGENT), *((name.encode(), value.encode()) for name, value in said.items())]
    return httpcore.Request(method, url, headers=lines, content=body)


@contextmanager
def _in_words(seconds: float) -> Iterator[None]:
    """Say what went wrong so that a caller may read it."""
    try:
        yield
    except TimeoutError:
        raise UnreachableError(f"It did not answer within {seconds:g} seconds.") from None
    except (httpcore.NetworkError, httpcore.TimeoutException) as error:
        raise UnreachableError(f"The connection failed: {_reason(error)}.") from None
    except httpcore.ProtocolError as error:
        raise UnreachableError(f"It does not speak HTTP/1.1: {_reason(error)}.") from None


def _check_status(status: int) -> None:
    if not is_success(status):
        raise UnreachableError(f"It answered with status {status}; redirects are not followed.")


def is_success(status: int) -> bool:
    """Say whether a status is 2xx."""
    return 200 <= status < 300  # noqa: PLR2004 - the class of statuses that RFC 9110 names so


class GuardedDoor(httpcore.AsyncNetworkBackend):
    """Opens connections to judged addresses; the name stays what TLS and the Host header are about."""

    def __init__(self, rules: Rules, resolve: Resolve) -> None:
        self._rules = rules
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Look a host up once, judge all of its addresses, connect to the first that answers."""
        addresses = await self._addresses(host, port)
        self._rules.admit(host, addresses)
        failed: Exception | None = None
        for address in addresses[:ADDRESSES_TRIED]:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout or CONNECT_SECONDS, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError("the name has no address")

    async def connect_unix_socket(self, path: str, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """Refuse: no URL of a caller names one."""
        raise UrlRefusedError(f"'{path}' is not on the public internet.")

    async def sleep(self, seconds: float) -> None:
        """Pause between httpcore's own tries."""
        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> Sequence[Address]:
        if (literal := read_address(host)) is not None:
            return [literal]
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                return await self._resolve(host, port)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("its name cannot be looked up") from None


def _trust(ca_file: str | None) -> ssl.SSLContext:
    """Return what certificates are judged by: the system's authorities, Mozilla's, and the owner's own."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # no such file, or (an SSLError) none with certificates in it
            raise StartError(
                f"STOKER_EGRESS_CA_FILE names {ca_file}, which holds no certificates that can be read ({error}); name "
                "a PEM file, or unset it."
            ) from error
    return context


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
