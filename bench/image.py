"""`python -m bench.image`: the demo pipeline through the whole platform beside calling diffusers directly.

Both sides draw the same images in batches of the same size and take turns. The bare side draws, and nothing else; the
platform has jobs of one image each, and what it takes to make one batch of them, files and rows counts against it.
Memory is looked at after each hundred images with adapters that never stay long.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import httpx
import torch
import transformers
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save

from bench.figures import lay_out, slope
from bench.processes import resident_mebibytes
from bench.wire import Connection
from tests.chaos.stack import ROOT, Stack, Wanted, run_stack

SKETCH = ROOT / "models" / "sketch"
STYLES = ("night", "stripes", "gold")
BATCH, STEPS, WAVES = 8, 8, 8
FED_IMAGES, FED_ADAPTERS, RESIDENT = 100, 20, 8
SWITCHES = 12
CATALOG = """
[models.sketch]
kind = "image"
engine = "diffusers"
source = "{weights}"
devices = ["cpu0"]
max_in_flight = 32
image = {{ width = 64, height = 64, steps = {steps}, guidance = 3, preview_every = 0 }}
options = {{ dtype = "float32", gather_ms = 20, max_resident_adapters = {resident} }}
warm_up = {{ prompt = "a red circle" }}
"""
PROMPTS = ("a red circle", "a blue square", "a green star", "a pink heart")


@dataclass
class Rounds:
    """Images per second, round by round, and the milliseconds of single jobs."""

    bare: list[float] = field(default_factory=list)
    platform: list[float] = field(default_factory=list)
    mixed: list[float] = field(default_factory=list)
    reloaded: list[float] = field(default_factory=list)
    staying_ms: list[float] = field(default_factory=list)
    switching_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    """With adapters that nobody used before, fetched for it."""


class BareSide:
    """diffusers in this process, the way its own pages call it."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        for library in (diffusers, transformers):
            library.utils.logging.set_verbosity_error()
            library.utils.logging.disable_progress_bar()
        self._pipeline = DiffusionPipeline.from_pretrained(SKETCH / "weights", local_files_only=True)
        self._pipeline.set_progress_bar_config(disable=True)

    def draw(self, images: int) -> float:
        """Draw in batches; return the images per second."""
        began_at = time.perf_counter()
        for number in range(0, images, BATCH):
            self._call(range(number, number + BATCH))
        return images / (time.perf_counter() - began_at)

    def draw_reloading(self, images: int) -> float:
        """Draw one by one, each with an adapter that is loaded for it and unloaded after it."""
        began_at = time.perf_counter()
        for number in range(images):
            folder = SKETCH / "adapters" / STYLES[number % len(STYLES)]
            self._pipeline.load_lora_weights(folder, adapter_name="one", local_files_only=True)
            self._call([number])
            self._pipeline.unload_lora_weights()
        return images / (time.perf_counter() - began_at)

    def _call(self, seeds: Sequence[int]) -> None:
        self._pipeline(
            [PROMPTS[seed % len(PROMPTS)] for seed in seeds],
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            num_inference_steps=STEPS,
            guidance_scale=3.0,
        )


class PlatformSide:
    """The platform, asked by clients that cost little."""

    def __init__(self, stack: Stack) -> None:
        self._port = int(stack.url.rpartition(":")[2])
        self._headers = {"Authorization": f"Bearer {stack.key}"}
        self._worker = stack.keeper.parts["worker-sketch-cpu0"].pid

    async def upload(self, count: int) -> list[str]:
        """Put adapters that all differ into the library, each a little fainter than the one before; their ids."""
        ids = []
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._port}", headers=self._headers) as client:
            for number in range(count):
                file = SKETCH / "adapters" / STYLES[number % len(STYLES)] / "pytorch_lora_weights.safetensors"
                faint = {key: value * (1 - number / 40) for key, value in load_file(file).items()}
                form = {"model": "sketch", "name": f"style-{number}"}
                answer = await client.post("/v1/loras", data=form, files={"file": ("style.safetensors", save(faint))})
                ids.append(str(answer.raise_for_status().json()["id"]))
        return ids

    async def draw(self, images: int, adapters: Sequence[str] = ()) -> float:
        """Submit jobs of one image, so many at once as two batches hold; return the images per second."""
        waiting, began_at = iter(range(images)), time.perf_counter()
        async with self._connections(2 * BATCH) as calls:
            await asyncio.gather(*(self._client(call, waiting, adapters) for call in calls))
        return images / (time.perf_counter() - began_at)

    async def one_ms(self, adapters: Sequence[str]) -> list[float]:
        """Ask for one image after the other, one with each of these adapters; the milliseconds of each."""
        took = []
        async with self._connections(1) as [call]:
            for number, adapter in enumerate(adapters):
                began_at = time.perf_counter()
                await self._run(call, number, adapter)
                took.append((time.perf_counter() - began_at) * 1000)
        return took

    def mebibytes(self) -> float:
        """Return what the worker holds."""
        return resident_mebibytes(self._worker)

    async def _client(self, call: Connection, waiting: Any, adapters: Sequence[str]) -> None:
        for number in waiting:
            await self._run(call, number, adapters[number % len(adapters)] if adapters else None)

    async def _run(self, call: Connection, number: int, adapter: str | None) -> None:
        given: dict[str, Any] = {"prompt": PROMPTS[number % len(PROMPTS)], "seed": number}
        if adapter is not None:
            given["adapters"] = [{"id": adapter}]
        await call.run_job({"kind": "image", "model": "sketch", "input": given})

    @asynccontextmanager
    async def _connections(self, count: int) -> AsyncIterator[list[Connection]]:
        opened = [await Connection.open(self._port, self._headers) for _ in range(count)]
        try:
            yield opened
        finally:
            for one in opened:
                one.close()


async def compare(bare: BareSide, platform: PlatformSide, adapters: Sequence[str], rounds: int) -> Rounds:
    """Let the sides take turns."""
    done, images = Rounds(), WAVES * BATCH
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        for side in ("bare", "platform") if number % 2 else ("platform", "bare"):
            if side == "bare":
                done.bare.append(await asyncio.to_thread(bare.draw, images))
            else:
                done.platform.append(await platform.draw(images))
        done.mixed.append(await platform.draw(images, adapters[:BATCH]))
        done.reloaded.append(await asyncio.to_thread(bare.draw_reloading, BATCH))
        done.staying_ms += (await platform.one_ms([adapters[0]] * SWITCHES))[1:]
        done.switching_ms += (await platform.one_ms([*adapters[:BATCH], *adapters[: SWITCHES - BATCH]]))[1:]
    return done


async def feed(platform: PlatformSide, adapters: Sequence[str], images: int) -> list[float]:
    """Draw many images with more adapters than stay in memory; the worker's MiB before, and after each hundred."""
    memory = [platform.mebibytes()]
    for _ in range(images // FED_IMAGES):
        await platform.draw(FED_IMAGES, adapters)
        memory.append(platform.mebibytes())
    return memory


async def measure(folder: Path, rounds: int, images: int) -> str:
    """Start both sides and compare them."""
    catalog = CATALOG.format(weights=SKETCH / "weights", steps=STEPS, resident=RESIDENT)
    async with run_stack(Wanted(folder, "sqlite", catalog, {"STOKER_WEIGHTS_DIR": str(folder / "weights")})) as stack:
        platform, bare = PlatformSide(stack), BareSide()
        adapters = await platform.upload(FED_ADAPTERS)
        await compare(bare, platform, adapters, 1)
        done = await compare(bare, platform, adapters, rounds)
        done.first_ms = await platform.one_ms(adapters[BATCH:])
        return render(done, await feed(platform, adapters, images))


def render(done: Rounds, memory: Sequence[float]) -> str:
    """Lay the medians out beside what they must be."""

    def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
        return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))

    staying, switching, first = map(statistics.median, (done.staying_ms, done.switching_ms, done.first_ms))
    fed = [(f"worker MiB after {number * FED_IMAGES} images", one, "<= 900") for number, one in enumerate(memory)]
    lines = [
        (f"images/s, batches of {BATCH}: diffusers directly", statistics.median(done.bare), ""),
        ("images/s: whole path, one image a job", statistics.median(done.platform), ""),
        ("  whole path / directly, median of pairs", ratio(done.platform, done.bare), ">= 0.90"),
        (f"images/s: whole path, {BATCH} adapters", statistics.median(done.mixed), ""),
        ("  with adapters / without", ratio(done.mixed, done.platform), ">= 0.85"),
        ("images/s: load, draw one, unload", statistics.median(done.reloaded), ""),
        ("  with adapters resident / loaded for each", ratio(done.mixed, done.reloaded), ">= 1.5"),
        ("one image, ms p50: always the same adapter", staying, ""),
        ("  more when the adapter changes", switching - staying, "<= 20"),
        (f"  more at first use, transfer and all (of {len(done.first_ms)})", first - staying, "<= 300"),
        ("  most of these", max(done.first_ms) - staying, ""),
        *fed,
        (f"  slope after the first, MiB per {FED_IMAGES}", slope(memory[1:]), "flat"),
    ]
    return lay_out(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.image", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--images", type=int, default=600, help=f"drawn with {FED_ADAPTERS} adapters, while memory is looked at"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        print(asyncio.run(measure(Path(folder), options.rounds, options.images)))


if __name__ == "__main__":
    main()
