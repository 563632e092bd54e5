"""`python -m bench.batches`: what a batch costs the platform on the fake engine, and how jobs fare beside it."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench import batch_waits
from bench.batch_waits import INSTANT, PACED, STEP_MS, measure_waits
from bench.catalogs import fake_model
from bench.processes import cpu_seconds, resident_mebibytes
from tests.chaos.stack import Stack, Wanted, run_stack

MODEL = "lark"
CATALOG = fake_model(MODEL, "embedding", 128)
WORKER = f"worker-{MODEL}-cpu0"
POLL_SECONDS = 0.2
JOB_SECONDS = 0.25
IDLE_JOBS = 40
PACED_SHARE, INSTANT_SHARE = 10, 1
"""An engine that takes its time needs fewer lines to be busy for as long."""
OURS = ("api", WORKER, "maintenance")


@dataclass
class Cost:
    """What one batch took."""

    seconds: float
    create_ms: float
    cpu_ms_per_line: dict[str, float]
    grown_mebibytes: dict[str, float]
    idle_ms: list[float]
    beside_ms: list[float]


def lines_of(count: int) -> Iterator[bytes]:
    """Yield the lines of a file."""
    for number in range(count):
        asked = {"model": MODEL, "input": f"{number} is a number, and this is a sentence about it. " * 4}
        line = {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/embeddings", "body": asked}
        yield json.dumps(line).encode() + b"\n"


class Bench:
    """A platform with one fake engine, and its caller."""

    def __init__(self, stack: Stack, api: httpx.AsyncClient) -> None:
        self._stack = stack
        self._api = api
        self._peaks: dict[str, float] = {}

    async def run(self, count: int) -> Cost:
        """Run one batch of so many lines."""
        file = await self._upload(b"".join(lines_of(count)))
        before, rested = self._cpu(), self._memory()
        self._peaks = rested
        idle = [await self._ask() for _ in range(IDLE_JOBS)]
        began_at = time.monotonic()
        asked = {"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"}
        batch = (await self._api.post("/v1/batches", json=asked)).raise_for_status().json()
        create_ms = (time.monotonic() - began_at) * 1000
        asking = asyncio.create_task(self._ask_now_and_then())
        await self._wait(batch["id"], count)
        seconds = time.monotonic() - began_at
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        after = self._cpu()
        cpu = {name: (after[name] - before[name]) * 1000 / count for name in before}
        grown = {name: self._peaks[name] - rested[name] for name in rested}
        return Cost(seconds, create_ms, cpu, grown, idle, self._beside)

    async def _upload(self, content: bytes) -> str:
        files = {"file": ("lines.jsonl", content)}
        answer = await self._api.post("/v1/files", data={"purpose": "batch"}, files=files)
        return str(answer.raise_for_status().json()["id"])

    async def _wait(self, batch_id: str, count: int) -> None:
        while True:
            batch = (await self._api.get(f"/v1/batches/{batch_id}")).json()
            now = self._memory()
            self._peaks = {name: max(self._peaks[name], now[name]) for name in now}
            if batch["status"] in {"completed", "failed", "expired", "cancelled"}:
                break
            await asyncio.sleep(POLL_SECONDS)
        if batch["request_counts"] != {"total": count, "completed": count, "failed": 0}:
            raise RuntimeError(f"the batch ended {batch['status']} with {batch['request_counts']}: {batch['errors']}")

    async def _ask_now_and_then(self) -> None:
        self._beside: list[float] = []
        while True:
            await asyncio.sleep(JOB_SECONDS)
            self._beside.append(await self._ask())

    async def _ask(self) -> float:
        """Run one job; return the milliseconds from its submit to its end."""
        began_at = time.perf_counter()
        job = {"kind": "embedding", "model": MODEL, "input": {"texts": ["one question"]}}
        answer = await self._api.post("/v1/jobs", json=job, headers={"Prefer": "wait=30"})
        if answer.raise_for_status().json()["status"] != "succeeded":
            raise RuntimeError(f"a job did not succeed: {answer.text}")
        return (time.perf_counter() - began_at) * 1000

    def _cpu(self) -> dict[str, float]:
        return {name: cpu_seconds(self._pid(name)) for name in OURS} | {"S3 server": cpu_seconds(self._s3())}

    def _memory(self) -> dict[str, float]:
        return {name: resident_mebibytes(self._pid(name)) for name in OURS}

    def _pid(self, name: str) -> int:
        return self._stack.keeper.parts[name].pid

    def _s3(self) -> int:
        return self._stack.servers.s3.pid


def render(costs: list[Cost], count: int) -> str:
    """Lay the medians out beside what they must be."""
    lines = [(f"{count:,} lines, seconds from create to end", statistics.median(c.seconds for c in costs), "<= 90")]
    lines += [("create, ms", statistics.median(cost.create_ms for cost in costs), "")]
    for name in costs[0].cpu_ms_per_line:
        lines.append((f"CPU-ms per line: {name}", statistics.median(c.cpu_ms_per_line[name] for c in costs), ""))
    ours = statistics.median(sum(cost.cpu_ms_per_line[name] for name in OURS) for cost in costs)
    lines.append(("CPU-ms per line: our processes together", ours, "<= 0.35"))
    wanted = {"api": "<= 50", WORKER: "<= 100", "maintenance": ""}
    for name in OURS:
        lines.append((f"grown MiB: {name}", max(cost.grown_mebibytes[name] for cost in costs), wanted[name]))
    idle = statistics.median(ms for cost in costs for ms in cost.idle_ms)
    beside = statistics.median(ms for cost in costs for ms in cost.beside_ms)
    lines += [("a job, ms: idle", idle, ""), ("a job, ms: beside the batch", beside, "")]
    return "\n".join(f"{label:<60}{value:>10.3f}   {limit}".rstrip() for label, value, limit in lines)


async def measure(folder: Path, db: str, count: int, rounds: int) -> str:
    """Run batches one after the other."""
    async with run_stack(Wanted(folder, db, CATALOG + batch_waits.CATALOG, {})) as stack:
        headers = {"Authorization": f"Bearer {stack.key}"}
        async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60, trust_env=False) as api:
            bench = Bench(stack, api)
            await bench.run(2_000)
            report = [render([await bench.run(count) for _ in range(rounds)], count)] if rounds else []
            names = {PACED: f"steps of {STEP_MS} ms", INSTANT: "no time at all"}
            for model, share in ((PACED, PACED_SHARE), (INSTANT, INSTANT_SHARE)):
                report += batch_waits.render(names[model], await measure_waits(stack, api, model, count // share))
            return "\n".join(report)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.batches", description=__doc__)
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3, help="of what a batch costs; at 0 only jobs beside it")
    parser.add_argument("--db", choices=["sqlite", "postgres"], default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        print(asyncio.run(measure(Path(folder), options.db, options.lines, options.rounds)))


if __name__ == "__main__":
    main()
