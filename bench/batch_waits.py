"""What a job waits for its first token beside a batch: on an engine that keeps a real one's hours, and on none."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx

from bench.catalogs import fake_model
from bench.streams import Client, first_token_ms
from tests.chaos.stack import Stack

STEP_MS = 20
PACED, INSTANT = "finch", "swift"
CATALOG = fake_model(PACED, "text", 64, step_ms=STEP_MS) + fake_model(INSTANT, "text", 64)
LINE_TOKENS = 12
IDLE_JOBS = 40
WARM_UP = 10
PAUSE_SECONDS = 0.15
LOOK_SECONDS = 0.05
LEAST_JOBS = 15


@dataclass
class Waits:
    """Milliseconds from submits to first tokens."""

    idle: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Return how many times longer it is beside a batch."""
        return statistics.median(self.beside) / statistics.median(self.idle)


def lines_of(model: str, count: int) -> Iterator[bytes]:
    """Yield the lines of a file."""
    for number in range(count):
        asked = {
            "model": model,
            "messages": [{"role": "user", "content": f"{number} fake:tokens={LINE_TOKENS}"}],
            "max_tokens": LINE_TOKENS,
        }
        line = {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions", "body": asked}
        yield json.dumps(line).encode() + b"\n"


async def measure_waits(stack: Stack, api: httpx.AsyncClient, model: str, lines: int) -> Waits:
    """Ask while nothing else happens, then in the middle of a batch."""
    client, waits = await Client.open(stack), Waits()
    for number in range(WARM_UP + IDLE_JOBS):
        took = await first_token_ms(client, model)
        waits.idle += [took] * (number >= WARM_UP)
        await asyncio.sleep(PAUSE_SECONDS / 3)
    files = {"file": ("lines.jsonl", b"".join(lines_of(model, lines)))}
    file = (await api.post("/v1/files", data={"purpose": "batch"}, files=files)).raise_for_status().json()
    asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = (await api.post("/v1/batches", json=asked)).raise_for_status().json()
    while batch["status"] == "validating" or (batch["status"] == "in_progress" and not _ended(batch)):
        await asyncio.sleep(LOOK_SECONDS)
        batch = (await api.get(f"/v1/batches/{batch['id']}")).json()
    while batch["status"] == "in_progress":
        took = await first_token_ms(client, model)
        batch = (await api.get(f"/v1/batches/{batch['id']}")).json()
        waits.beside += [took] * (batch["status"] == "in_progress")
        await asyncio.sleep(PAUSE_SECONDS)
    if len(waits.beside) < LEAST_JOBS:
        raise RuntimeError(
            f"only {len(waits.beside)} jobs were beside the batch, which is {batch['status']}: more lines"
        )
    return waits


def _ended(batch: dict[str, dict[str, int]]) -> int:
    return batch["request_counts"]["completed"] + batch["request_counts"]["failed"]


def render(name: str, waits: Waits) -> list[str]:
    """Lay out what was measured beside what it must be."""
    lines = []
    for when, measured in (("idle", waits.idle), ("in the middle of a batch", waits.beside)):
        cuts = statistics.quantiles(measured, n=20, method="inclusive")
        lines.append(f"{f'first token, ms, {name}: {when}':<62}{cuts[9]:>8.1f}   p95 {cuts[18]:.1f}")
    return [*lines, f"{'  ratio of the medians':<62}{waits.ratio:>8.2f}   <= 2"]
