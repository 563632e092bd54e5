"""The large families through the auto pipeline: Stable Diffusion XL and Flux, with adapters, in shared batches."""

import asyncio
import io
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from schemas.base import JsonObject
from schemas.events import Preview, Produced
from tests.engines import listen, model
from tests.pipelines import build_flux, build_sdxl, save_adapter
from workers.engines import create_engine
from workers.engines.image import ImageEngine

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:__array__ implementation"),  # numpy of diffusers' schedulers
]

Pixels = NDArray[np.int16]
SIDE, STEPS, GUIDANCE = 32, 3, 3.0
FAMILIES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "StableDiffusionXLPipeline": (build_sdxl, ("unet", "text_encoder", "text_encoder_2")),
    "FluxPipeline": (build_flux, ("transformer", "text_encoder")),
}
"""How each is made, and the components that its adapters change."""


@dataclass
class Family:
    """A pipeline's files, and our engine on them."""

    folder: Path
    engine: ImageEngine

    async def draw(self, *jobs: JsonObject) -> list[Pixels]:
        """Draw jobs side by side."""
        said = await asyncio.gather(
            *(listen(self.engine, given(job), f"job_{n}", "image") for n, job in enumerate(jobs))
        )
        return [pixels(event.content) for events in said for event in events if isinstance(event, Produced)]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FAMILIES)
async def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Family]:
    """A family with two adapters, loaded."""
    build, components = FAMILIES[request.param]
    folder, threads = tmp_path_factory.mktemp(request.param), torch.get_num_threads()
    build(folder / "weights")
    pipeline = DiffusionPipeline.from_pretrained(folder / "weights", local_files_only=True)
    for seed, name in enumerate(("one", "other")):
        (folder / name).mkdir()
        save_adapter(pipeline, folder / name / "pytorch_lora_weights.safetensors", seed, *components)
    engine = create_engine(
        model(
            "diffusers",
            "image",
            source=str(folder / "weights"),
            adapters={name: {"source": str(folder / name)} for name in ("one", "other")},
            image={"width": SIDE, "height": SIDE, "steps": STEPS, "guidance": GUIDANCE, "preview_every": 1},
            max_in_flight=16,
            options={"gather_ms": 100},
        )
    )
    assert isinstance(engine, ImageEngine)
    await engine.load()
    await engine.warm_up({"prompt": "a red circle"})
    assert engine.stats()["pipeline"] == request.param
    yield Family(folder, engine)
    await engine.close()
    torch.set_num_threads(threads)


def given(job: JsonObject) -> JsonObject:
    return {"prompt": "a red circle", "seed": 7, **job}


def pixels(content: bytes) -> Pixels:
    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened.convert("RGB")).astype(np.int16)


def difference(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one - other).max())


def use(**strengths: float) -> JsonObject:
    return {"adapters": [{"id": name, "strength": strength} for name, strength in strengths.items()]}


JOBS: list[JsonObject] = [{}, use(one=1.0), use(one=0.5), use(one=0.6, other=0.8), use(one=0.0)]


async def test_jobs_with_different_adapters_share_a_batch_and_get_what_they_would_alone(family: Family) -> None:
    before = family.engine.stats()
    together = await family.draw(*JOBS)
    alone = [(await family.draw(job))[0] for job in JOBS]
    assert family.engine.stats()["images_per_batch"] > before["images_per_batch"]
    assert [difference(one, other) <= 1 for one, other in zip(together, alone, strict=True)] == [True] * len(JOBS)
    base, whole, half, both, none = alone
    assert np.array_equal(base, none)
    assert min(difference(base, other) for other in (whole, half, both)) > 8
    assert difference(whole, half) > 4


async def test_adapters_do_what_peft_makes_of_them(family: Family) -> None:
    """Another implementation, one image at a time."""
    pipeline: Any = DiffusionPipeline.from_pretrained(family.folder / "weights", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # peft warns of a second adapter, which is what we want
        for name in ("one", "other"):
            pipeline.load_lora_weights(family.folder / name, adapter_name=name, local_files_only=True)
    pipeline.set_adapters(["one", "other"], [0.6, 0.8])
    drawn = pipeline(
        "a red circle",
        width=SIDE,
        height=SIDE,
        generator=[torch.Generator().manual_seed(7)],
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        output_type="np",
    )
    theirs = (drawn.images[0] * 255).round().astype(np.int16)
    assert difference(theirs, (await family.draw(JOBS[3]))[0]) <= 1


async def test_previews_are_pictures(family: Family) -> None:
    events = await listen(family.engine, given({"steps": 4}), "job_1", "image")
    previews = [pixels(event.content) for event in events if isinstance(event, Preview)]
    assert [one.shape for one in previews] == [(128, 128, 3)] * 3
