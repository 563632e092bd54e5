"""A receiver of requests for tests: plain sockets in the test's own loop, so that it can misbehave in every way."""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """An answer; `Retry_After="3"` is the header Retry-After."""
    said = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + body


@dataclass(frozen=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class Receiver:
    """Where requests arrive. `reply` makes the answer; None means that there is never one."""

    port: int = 0
    scheme: str = "http"
    host: str = "127.0.0.1"
    received: list[Received] = field(default_factory=list)
    dealt_with: int = 0
    """How many of these have been answered, hung up on or left without an answer."""
    reply: Callable[[Received], bytes | None] = lambda _: OK
    hangs_up: bool = False
    """Take the request, then close the connection without an answer."""
    delay_seconds: float = 0.0
    connections: int = 0
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where to send."""
        return f"{self.scheme}://{self.host}:{self.port}/hook"

    async def until(self, count: int, seconds: float = 60.0) -> list[Received]:
        """Wait until so many requests have come, each with what comes back: else it could be cut off."""
        async with asyncio.timeout(seconds):
            while self.dealt_with < count:  # noqa: ASYNC110 - they come from another task or process
                await asyncio.sleep(0.01)
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self.serving.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            while (request := await _read(reader)) is not None:
                self.received.append(request)
                await asyncio.sleep(self.delay_seconds)
                said = None if self.hangs_up else self.reply(request)
                if said is not None:
                    writer.write(said)
                    await writer.drain()
                self.dealt_with += 1
                if self.hangs_up:
                    break
                if said is None:
                    await reader.read()  # until the sender gives up
                    break


async def _read(reader: asyncio.StreamReader) -> Received | None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    method, path, _ = first.split(" ")
    return Received(method, path, headers, body, time.time())


@asynccontextmanager
async def run_receiver(
    receiver: Receiver | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Run a receiver on a free loopback port, or on the one that it had before."""
    made = receiver or Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", made.port, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    made.scheme = "https" if tls else "http"
    try:
        yield made
    finally:
        server.close()
        serving = list(made.serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted transport is closed at the loop's next turn


@contextmanager
def receiving(receiver: Receiver | None = None) -> Iterator[Receiver]:
    """Run a receiver in a loop and thread of its own, for tests that have none."""
    made, loop, is_ready = receiver or Receiver(), asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def run() -> None:
        async with run_receiver(made):
            is_ready.set()
            await stop.wait()

    def serve() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=serve, name="receiver")
    thread.start()
    try:
        assert is_ready.wait(60)
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def wait_for(receiver: Receiver, count: int, seconds: float = 60.0) -> list[Received]:
    """Wait in a thread until so many requests have come."""
    deadline = time.monotonic() + seconds
    while receiver.dealt_with < count:
        assert time.monotonic() < deadline, f"{len(receiver.received)} of {count} requests came"
        time.sleep(0.01)
    return receiver.received
