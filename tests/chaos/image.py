"""The real image engine under its own faults: what was drawn in calm must be drawn again under them, and whole.

Every job has a seed, so its picture is known: it was drawn once in calm, and in any company it may differ by one part
in 255. The model pretends that batches of eight do not fit into memory.
"""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.base import JsonObject
from tests.chaos.calm import PATIENCE_SECONDS, START_SECONDS, CalmScene, Wish, note_orphans, strike_all
from tests.chaos.client import Client
from tests.chaos.database import open_rows
from tests.chaos.history import JobHistory
from tests.chaos.run import SETTINGS, Options, Report, Say
from tests.chaos.stack import ROOT, Wanted, run_stack
from tests.chaos.waiting import until

ADAPTERS = ROOT / "models" / "sketch" / "adapters"
CATALOG = """
[models.sketch]
kind = "image"
engine = "diffusers"
source = "./models/sketch/weights"
devices = ["cpu0"]
max_in_flight = 16
timeout_seconds = 120
image = { width = 64, height = 64, steps = 20, guidance = 3, preview_every = 5 }
options = { dtype = "float32", drill_batch = 8, gather_ms = 50 }

[models.sketch.adapters.gold]
source = "./models/sketch/adapters/gold"
"""
FIGURES = ("a red circle", "a blue square", "a green star", "a purple heart")
LIBRARY = ("night", "stripes")
"""Uploaded as a caller would."""
SICK_SECONDS = 3.0

Pixels = NDArray[np.int16]


@dataclass
class ImageScene(CalmScene):
    """The platform with the demo pipeline."""

    part = "worker-sketch-cpu0"
    busy_jobs = 4
    adapters: dict[str, str] = field(default_factory=dict)
    """Ids by name."""
    pictures: dict[Wish, Pixels] = field(default_factory=dict)

    def log(self) -> str:
        """Return what the worker has said so far."""
        return (self.stack.folder / "logs" / f"{self.part}.log").read_text()

    def body(self, wish: Wish) -> JsonObject:
        """Return the job that asks for it; its seed comes from what it shows."""
        figure, adapter = wish
        used = [] if adapter is None else [{"id": self.adapters.get(adapter, adapter)}]
        given = {"prompt": figure, "seed": len(figure), "adapters": used}
        return {"kind": "image", "model": "sketch", "input": given}

    async def see(self, wish: Wish, job: JsonObject, history: JobHistory) -> None:
        """Compare the picture with the one of calm, pixel by pixel."""
        [artifact] = job["artifacts"]
        async with httpx.AsyncClient(trust_env=False, timeout=15) as store:
            content = (await store.get(artifact["url"])).raise_for_status().content
        history.results.append(artifact["sha256"])
        with Image.open(io.BytesIO(content)) as opened:
            picture = np.asarray(opened.convert("RGB")).astype(np.int16)
        if (farthest := int(np.abs(picture - self.pictures.setdefault(wish, picture)).max())) > 1:
            history.wrong_results.append(f"a pixel of {wish} is {farthest} off")

    async def upload(self) -> None:
        """Put adapters into the library."""
        async with httpx.AsyncClient(trust_env=False, timeout=15) as api:
            for name in LIBRARY:
                content = (ADAPTERS / name / "pytorch_lora_weights.safetensors").read_bytes()
                answer = await api.post(
                    f"{self.stack.url}/v1/loras",
                    headers={"Authorization": f"Bearer {self.stack.key}"},
                    data={"model": "sketch", "name": name},
                    files={"file": (f"{name}.safetensors", content)},
                )
                self.adapters[name] = str(answer.raise_for_status().json()["id"])


async def _kill_worker(scene: ImageScene) -> str:
    starts = scene.worker.starts
    scene.worker.kill9()
    await scene.worker.wait_ready(START_SECONDS, after=starts)
    return "the worker died with -9 while it drew"


async def _run_short(scene: ImageScene) -> str:
    short = "did not fit into memory"
    await until(lambda: short in scene.log(), PATIENCE_SECONDS)
    times = scene.log().count(short)
    return f"{times} batches did not fit into memory" if times else ""


async def _fail_store(scene: ImageScene) -> str:
    door = scene.stack.servers.s3_door
    if door is None:
        raise RuntimeError("this platform talks to its object store directly")
    before = len(door.refused)
    door.fall_sick()
    try:
        await asyncio.sleep(SICK_SECONDS)
    finally:
        door.get_well()
    puts = sum(line.startswith("PUT ") for line in door.refused[before:])
    return f"{puts} puts were answered with 500" if puts else ""


async def _damage_adapters(scene: ImageScene) -> str:
    """Write over the files on the worker's disk and have it begin anew, so that it needs them."""
    files = [*(scene.stack.folder / "weights").rglob("adapter_model.safetensors")]
    for file in files:
        file.write_bytes(b"nonsense" + file.read_bytes()[8:])
    starts = scene.worker.starts
    scene.worker.term()
    await scene.worker.wait_ready(START_SECONDS, after=starts)
    said = "it is fetched again"
    await until(lambda: scene.log().count(said) >= len(files), PATIENCE_SECONDS)
    return f"{len(files)} adapters were damaged on the disk" if files and said in scene.log() else ""


IMAGE_STRIKES: dict[str, Callable[[ImageScene], Awaitable[str]]] = {
    "out-of-memory": _run_short,
    "kill-worker": _kill_worker,
    "s3-500": _fail_store,
    "damaged-adapters": _damage_adapters,
}


async def run_image(options: Options, folder: Path, say: Say) -> Report:
    """Run it all; whatever happens, every process is gone when this returns."""
    settings = {**SETTINGS, "STOKER_WEIGHTS_DIR": str(folder / "weights")}
    wanted = Wanted(folder, options.db, CATALOG, settings, s3_may_fall_sick=True, ready_seconds=START_SECONDS)
    async with run_stack(wanted) as stack, Client(stack.url, stack.key) as client:
        with open_rows(stack.servers.database_url) as rows:
            scene = ImageScene(stack, client, rows, random.Random(f"pictures of {options.seed}"))
            await scene.upload()
            await scene.learn(product(FIGURES, (None, "gold", *LIBRARY)))
            report = await strike_all(scene, IMAGE_STRIKES, options, say)
    return note_orphans(report, folder)
