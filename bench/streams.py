"""`python -m bench.streams`: what the platform adds to a stream of tokens, in milliseconds and in the API's CPU.

The fake engine is the bare engine, and each of its steps takes the same time. What a client waits for its first token
beyond that, one job after the other, is ours; so is the API's CPU per token while many clients listen at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench.catalogs import fake_model
from bench.processes import cpu_seconds
from bench.wire import Connection
from tests.chaos.stack import Stack, Wanted, run_stack

MODEL = "steady"
STEP_MS = 20
CATALOG = fake_model(MODEL, "text", 64, step_ms=STEP_MS)
WARM_UP = 20
FIRST_TOKENS = 200
WORDS = 3
PAUSE_SECONDS = 0.02
STREAMS = 32
TOKENS = 400


@dataclass(frozen=True)
class Client:
    """One client of a running platform, with two connections that stay open."""

    port: int
    headers: dict[str, str]
    calls: Connection

    @classmethod
    async def open(cls, stack: Stack) -> Client:
        """Connect."""
        port, headers = int(stack.url.rpartition(":")[2]), {"Authorization": f"Bearer {stack.key}"}
        return cls(port, headers, await Connection.open(port, headers))

    async def submit(self, tokens: int, model: str = MODEL) -> str:
        """Submit a job that says so many tokens; return its id."""
        given = {"prompt": f"fake:tokens={tokens}", "max_tokens": tokens}
        answer = await self.calls.request("POST", "/v1/jobs", {"kind": "text", "model": model, "input": given})
        if answer.status != 202:
            raise RuntimeError(f"a submit was answered with {answer.status}: {answer.body}")
        return str(answer.body["id"])

    async def events(self, job_id: str) -> AsyncIterator[dict[str, object]]:
        """Follow a job on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        writer.write(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: bench\r\n{head}\r\n".encode())
        try:
            while line := await reader.readline():
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    yield event
                    if event["type"] == "finished":
                        return
        finally:
            writer.close()


async def first_token_ms(client: Client, model: str = MODEL) -> float:
    """Submit a job and follow it to its end; the milliseconds to the first token."""
    began_at, took = time.perf_counter(), 0.0
    async for event in client.events(await client.submit(WORDS, model)):
        if event["type"] == "token" and not took:
            took = (time.perf_counter() - began_at) * 1000
    return took


async def api_microseconds_per_token(client: Client, api_pid: int) -> float:
    """Listen to many jobs at once; the API's CPU from the moment that all have begun until all have ended."""
    jobs = [await client.submit(TOKENS) for _ in range(STREAMS)]
    words = [0] * STREAMS
    all_begun = asyncio.Event()

    async def follow(number: int) -> None:
        async for event in client.events(jobs[number]):
            if event["type"] == "token":
                words[number] += len(str(event["data"]["text"]).split())  # type: ignore[index]  # JSON
                if all(words):
                    all_begun.set()

    following = asyncio.gather(*(follow(number) for number in range(STREAMS)))
    await all_begun.wait()
    cpu, heard = cpu_seconds(api_pid), sum(words)
    await following
    return (cpu_seconds(api_pid) - cpu) * 1e6 / (sum(words) - heard)


async def measure(folder: Path, database: str, rounds: int) -> dict[str, float]:
    """Start a platform and measure both."""
    async with run_stack(Wanted(folder, database, CATALOG, {})) as stack:
        client = await Client.open(stack)
        for _ in range(WARM_UP):
            await first_token_ms(client)
        waits = []
        for _ in range(FIRST_TOKENS):
            waits.append(await first_token_ms(client) - STEP_MS)
            await asyncio.sleep(PAUSE_SECONDS)
        api_pid = stack.keeper.parts["api"].pid
        cpu = [await api_microseconds_per_token(client, api_pid) for _ in range(rounds)]
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return {
        "first token, ms beyond the engine's, p50": cuts[49],
        "first token, ms beyond the engine's, p99": cuts[98],
        f"API CPU microseconds per token, {STREAMS} streams": statistics.median(cpu),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--db", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        for name, value in asyncio.run(measure(Path(folder), options.db, options.rounds)).items():
            print(f"{name:48}{value:8.1f}")


if __name__ == "__main__":
    main()
