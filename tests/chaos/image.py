"""The real image engine under its own faults: what was drawn in calm must be drawn again under them, and whole.

Every job has a seed, so its picture is known: it was drawn once in calm, and in any company it may differ by one part
in 255. The model pretends that batches of eight do not fit into memory.
"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.base import JsonObject
from tests.chaos.checker import check
from tests.chaos.client import Client
from tests.chaos.database import Rows, open_rows
from tests.chaos.history import Expectation, JobHistory, digest
from tests.chaos.keeper import Kept
from tests.chaos.run import SETTINGS, Options, Report, Say, orphans
from tests.chaos.stack import ROOT, Stack, Wanted, run_stack
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
WORKER = "worker-sketch-cpu0"
FIGURES = ("a red circle", "a blue square", "a green star", "a purple heart")
LIBRARY = ("night", "stripes")
"""Uploaded as a caller would."""
START_SECONDS = 240.0
BUSY_JOBS = 4
SICK_SECONDS = 3.0
PATIENCE_SECONDS = 180.0

Pixels = NDArray[np.int16]
Wish = tuple[str, str | None]


@dataclass
class Scene:
    """The platform, its one engine, and the wishes whose pictures are known."""

    stack: Stack
    client: Client
    store: httpx.AsyncClient
    rows: Rows
    adapters: dict[str, str]
    """Ids by name."""
    known: dict[Wish, tuple[str, Pixels]]
    """The digest of each wish's output, and its picture."""
    histories: list[JobHistory]

    @property
    def worker(self) -> Kept:
        """Return the worker with the engine."""
        return self.stack.keeper.parts[WORKER]

    def log(self) -> str:
        """Return what the worker has said so far."""
        return (self.stack.folder / "logs" / f"{WORKER}.log").read_text()

    async def learn(self, wishes: list[Wish]) -> None:
        """Have everything drawn once in calm, alone."""
        for wish in wishes:
            history = JobHistory(f"calm-{len(self.known)}", Expectation())
            await self.client.submit(self._body(wish), history)
            job = await self._end(history)
            if job["status"] != "succeeded":
                raise RuntimeError(f"{history.job_id} was asked in calm and is {job['status']}: {job['error']}")
            self.known[wish] = digest(job["output"]), await self._fetch(job, history)

    async def ask(self, number: int) -> list[tuple[Wish, JobHistory]]:
        """Submit wishes; their pictures are known."""
        wishes = [*self.known] * (number // len(self.known) + 1)
        asked = []
        for wish in wishes[:number]:
            expected = Expectation(output=self.known[wish][0])
            asked.append((wish, JobHistory(f"image-{len(self.histories)}", expected)))
            self.histories.append(asked[-1][1])
        await asyncio.gather(*(self.client.submit(self._body(wish), history) for wish, history in asked))
        return asked

    async def answered(self, asked: list[tuple[Wish, JobHistory]]) -> None:
        """Wait until these have ended, and look at their pictures."""
        jobs = await asyncio.gather(*(self._end(history) for _, history in asked))
        for job, (wish, history) in zip(jobs, asked, strict=True):
            if job["status"] == "succeeded":
                picture = await self._fetch(job, history)
                if (farthest := int(np.abs(picture - self.known[wish][1]).max())) > 1:
                    history.wrong_results.append(f"a pixel of {wish} is {farthest} off")

    def _body(self, wish: Wish) -> JsonObject:
        figure, adapter = wish
        used = [] if adapter is None else [{"id": self.adapters.get(adapter, adapter)}]
        given = {"prompt": figure, "seed": len(figure), "adapters": used}
        return {"kind": "image", "model": "sketch", "input": given}

    async def _fetch(self, job: JsonObject, history: JobHistory) -> Pixels:
        [artifact] = job["artifacts"]
        content = (await self.store.get(artifact["url"])).raise_for_status().content
        history.results.append(artifact["sha256"])
        with Image.open(io.BytesIO(content)) as opened:
            return np.asarray(opened.convert("RGB")).astype(np.int16)

    async def _end(self, history: JobHistory) -> JsonObject:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                job = await self.client.look(history, 5)
                if job is not None and history.has_ended:
                    return job


async def _kill_worker(scene: Scene) -> str:
    starts = scene.worker.starts
    scene.worker.kill9()
    await scene.worker.wait_ready(START_SECONDS, after=starts)
    return "the worker died with -9 while it drew"


async def _run_short(scene: Scene) -> str:
    short = "did not fit into memory"
    await until(lambda: short in scene.log(), PATIENCE_SECONDS)
    times = scene.log().count(short)
    return f"{times} batches did not fit into memory" if times else ""


async def _fail_store(scene: Scene) -> str:
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


async def _damage_adapters(scene: Scene) -> str:
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


IMAGE_STRIKES: dict[str, Callable[[Scene], Awaitable[str]]] = {
    "out-of-memory": _run_short,
    "kill-worker": _kill_worker,
    "s3-500": _fail_store,
    "damaged-adapters": _damage_adapters,
}


async def run_image(options: Options, folder: Path, say: Say) -> Report:
    """Run it all; whatever happens, every process is gone when this returns."""
    report = Report()
    settings = {**SETTINGS, "STOKER_WEIGHTS_DIR": str(folder / "weights")}
    wanted = Wanted(folder, options.db, CATALOG, settings, s3_may_fall_sick=True, ready_seconds=START_SECONDS)
    async with (
        run_stack(wanted) as stack,
        Client(stack.url, stack.key) as client,
        httpx.AsyncClient(trust_env=False, timeout=15) as store,
    ):
        adapters = await _upload(stack, store)
        with open_rows(stack.servers.database_url) as rows:
            scene = Scene(stack, client, store, rows, adapters, {}, [])
            await scene.learn([*product(FIGURES, (None, "gold", *LIBRARY))])
            say(f"{len(scene.known)} pictures were drawn in calm")
            never_fired = [name async for name in _strike_all(scene, options, say)]
            report.violations = check(scene.histories)
            report.violations["never_fired"] = never_fired
            report.violations["disorder"] = rows.disorder()
    report.violations["orphans"] = orphans(folder)
    report.accepted = len(scene.histories)
    report.statuses = Counter(str(look.status) for one in scene.histories if (look := one.last_look))
    return report


async def _upload(stack: Stack, store: httpx.AsyncClient) -> dict[str, str]:
    ids = {}
    for name in LIBRARY:
        content = (ADAPTERS / name / "pytorch_lora_weights.safetensors").read_bytes()
        answer = await store.post(
            f"{stack.url}/v1/loras",
            headers={"Authorization": f"Bearer {stack.key}"},
            data={"model": "sketch", "name": name},
            files={"file": (f"{name}.safetensors", content)},
        )
        ids[name] = str(answer.raise_for_status().json()["id"])
    return ids


async def _strike_all(scene: Scene, options: Options, say: Say) -> AsyncIterator[str]:
    """Strike while pictures are being drawn; yield what never fired."""
    for name in options.faults:
        asked = await scene.ask(-(-options.jobs // len(options.faults)))
        await until(lambda: len(scene.rows.running()) >= BUSY_JOBS, PATIENCE_SECONDS)
        running = len(scene.rows.running())
        proof = await IMAGE_STRIKES[name](scene) if running else ""
        await scene.answered(asked)
        again = sum(1 for _, history in asked if (look := history.last_look) and look.attempt > 1)
        ran = f"{running} pictures were being drawn, {again} of {len(asked)} jobs ran again"
        say(f"{name}: {proof or 'NEVER FIRED'}; {ran}")
        if not proof:
            yield name
