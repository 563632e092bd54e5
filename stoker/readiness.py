"""Whether a part is ready: one short question on loopback, or a file that the part made."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

from stoker.parts import Ready

ANSWER_SECONDS = 2.0


async def is_ready(ready: Ready, ports: Mapping[str, int], ready_file: Path) -> bool:
    """Ask once."""
    if ready.kind == "file":
        return ready_file.exists()  # noqa: ASYNC240 - a stat of a local file
    port = ports[ready.port]
    if ready.kind == "http":
        request = f"GET {ready.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
        return (await _ask(port, request)).split(maxsplit=2)[1:2] == [b"200"]
    if ready.kind == "redis":
        commands = [f"AUTH {ready.password}\r\n"] if ready.password else []
        commands.append("PING\r\n")
        return (await _ask(port, "".join(commands), line=len(commands))).startswith(b"+PONG")
    return (await _ask(port, "GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/")  # S3 refuses us, but it is there


async def _ask(port: int, request: str, line: int = 1) -> bytes:
    """A line of the answer, by its number, or nothing."""
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                writer.write(request.encode())
                return [await reader.readline() for _ in range(line)][-1]
    return b""
