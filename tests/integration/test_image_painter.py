"""The real pipeline: batches, adapters, schedulers and cancels do to pictures what they should, and nothing else."""

import asyncio
import io
import json
import re
import warnings
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file

from schemas.base import JsonObject
from schemas.errors import EngineRefusedError
from schemas.events import Finished, Preview, Produced
from tasks.adapters import AdapterFile
from tests.engines import listen
from tests.painters import ADAPTERS, SKETCH, sketch
from workers.engines import create_engine, mixing, painter
from workers.engines.image import ImageEngine
from workers.engines.image_options import ImageOptions

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:__array__ implementation"),  # numpy of diffusers' schedulers
]

Pixels = NDArray[np.int16]
CIRCLE: JsonObject = {"prompt": "a red circle", "seed": 7}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[ImageEngine]:
    """The demo pipeline with its adapters."""
    before = torch.get_num_threads()
    made = create_engine(sketch(options={"gather_ms": 50}))
    assert isinstance(made, ImageEngine)
    await made.load()
    await made.warm_up({"prompt": "a red circle"})
    yield made
    await made.close()
    torch.set_num_threads(before)


async def draw(engine: ImageEngine, job_id: str = "job_1", **given: Any) -> list[Pixels]:
    events = await listen(engine, {**CIRCLE, **given}, job_id, "image")
    assert isinstance(events[-1], Finished)
    return [pixels(event.content) for event in events if isinstance(event, Produced)]


async def draw_together(engine: ImageEngine, jobs: Sequence[JsonObject]) -> list[Pixels]:
    """Draw all in one batch."""
    before = engine.stats()["images_per_batch"], engine._batches  # noqa: SLF001 - that they shared one is the point
    drawn = await asyncio.gather(*(draw(engine, f"job_{n}", **job) for n, job in enumerate(jobs)))
    assert engine._batches == before[1] + 1  # noqa: SLF001 - the same
    return [one for pictures in drawn for one in pictures]


def pixels(content: bytes) -> Pixels:
    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened.convert("RGB")).astype(np.int16)


def difference(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one - other).max())


def change(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one - other).mean())


def use(name: str, strength: float = 1.0) -> JsonObject:
    return {"adapters": [{"id": name, "strength": strength}]}


def other_than_paper(picture: Pixels) -> NDArray[np.bool_]:
    """Say where the figure is: wherever most pixels are not paper's. A single one may differ."""
    paper = np.median(picture[:4, :4], axis=(0, 1))
    other = Image.fromarray(np.abs(picture - paper).max(axis=2) > 60).convert("L")
    covered: NDArray[np.bool_] = np.asarray(other.filter(ImageFilter.MedianFilter(3))) > 0
    return covered


async def test_a_red_circle_is_red_and_round(engine: ImageEngine) -> None:
    [picture] = await draw(engine)
    cover = other_than_paper(picture)
    red, green, blue = np.median(picture[cover], axis=0)
    assert red > 170
    assert max(green, blue) < 110
    rows, columns = np.nonzero(cover.any(1))[0], np.nonzero(cover.any(0))[0]
    high, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert min(high, wide) >= 32
    assert 0.85 < high / wide < 1.18
    assert 0.7 < cover.sum() / (high * wide) < 0.88  # a circle fills pi/4 of its square


JOBS: list[JsonObject] = [
    {"prompt": "a red circle", "seed": 1},
    {"prompt": "a blue square", "seed": 2, **use("night")},
    {"prompt": "a green star", "seed": 3, **use("stripes", 0.5)},
    {"prompt": "a black heart", "seed": 4, **use("stripes")},
    {"prompt": "a pink ring", "seed": 5, **use("gold", 0.7)},
    {"prompt": "a yellow cross", "seed": 6, "adapters": [{"id": "gold"}, {"id": "stripes", "strength": 0.6}]},
    {"prompt": "a red circle", "seed": 1, **use("night", 0.0)},
]


async def test_a_batch_of_different_adapters_equals_the_singles(engine: ImageEngine) -> None:
    together = await draw_together(engine, JOBS)
    alone = [(await draw(engine, **job))[0] for job in JOBS]
    assert [difference(one, other) <= 1 for one, other in zip(together, alone, strict=True)] == [True] * len(JOBS)
    assert difference(together[0], together[6]) <= 1  # strength 0, in whatever company


async def test_equal_batches_are_equal_to_the_byte(engine: ImageEngine) -> None:
    first, second = [await draw_together(engine, JOBS) for _ in range(2)]
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("scheduler", "guidance"),
    [(None, 1.0), ("euler", 3.0), ("euler_a", 1.0), ("euler_a", 3.0), ("dpm++", 3.0), ("unipc", 3.0), ("lcm", 1.0)],
)
async def test_a_picture_is_the_same_in_any_company_with_every_scheduler(
    engine: ImageEngine, scheduler: str | None, guidance: float
) -> None:
    asked = {"scheduler": scheduler, "guidance": guidance, "steps": 5}
    jobs: list[JsonObject] = [{**job, **asked} for job in JOBS[:3]]
    together = await draw_together(engine, jobs)
    for one, job in zip(together, jobs, strict=True):
        assert difference(one, (await draw(engine, **job))[0]) <= 1


@pytest.mark.parametrize("scheduler", ["euler", "euler_a", "ddim", "dpm++", "unipc"])
async def test_every_scheduler_draws_the_red_circle(engine: ImageEngine, scheduler: str) -> None:
    [picture] = await draw(engine, scheduler=scheduler, steps=12)
    red, green, blue = np.median(picture[28:36, 28:36], axis=(0, 1))
    assert red > green + 60
    assert red > blue + 60
    assert 0.1 < other_than_paper(picture).mean() < 0.7


@pytest.mark.parametrize("name", ADAPTERS)
async def test_an_adapter_changes_the_picture_by_its_strength(engine: ImageEngine, name: str) -> None:
    [base], [none], [half], [full] = [
        await draw(engine, prompt="a blue square", **wish) for wish in ({}, use(name, 0.0), use(name, 0.5), use(name))
    ]
    assert np.array_equal(base, none)
    assert change(base, full) > 5
    assert 0.2 < change(base, half) / change(base, full) < 0.85


async def test_gold_is_gold_and_night_is_dark(engine: ImageEngine) -> None:
    [gold] = await draw(engine, prompt="a blue square", **use("gold"))
    red, green, blue = gold[other_than_paper(gold)].mean(axis=0)
    assert red > green > blue + 50
    [night] = await draw(engine, prompt="a blue square", **use("night"))
    assert night[:6, :6].mean() < 64


async def test_adapters_do_what_peft_makes_of_them(engine: ImageEngine) -> None:
    """Another implementation, one image at a time."""
    pipeline = DiffusionPipeline.from_pretrained(SKETCH / "weights", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # peft warns of a second adapter, which is what we want
        for name in ADAPTERS:
            pipeline.load_lora_weights(SKETCH / "adapters" / name, adapter_name=name, local_files_only=True)
    for job in (JOBS[2], JOBS[5]):
        names = [one["id"] for one in job["adapters"]]
        pipeline.set_adapters(names, [one.get("strength", 1.0) for one in job["adapters"]])
        seed = torch.Generator().manual_seed(job["seed"])
        drawn = pipeline(job["prompt"], generator=[seed], num_inference_steps=8, guidance_scale=3.0, output_type="np")
        theirs = (drawn.images[0] * 255).round().astype(np.int16)
        assert difference(theirs, (await draw(engine, **job))[0]) <= 1, job


async def test_changes_that_are_too_large_to_copy_are_added(
    engine: ImageEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = await draw_together(engine, JOBS)
    monkeypatch.setattr(painter, "Mixture", lambda pipeline, images: mixing.Mixture(pipeline, images, 0))
    added = await draw_together(engine, JOBS)
    alone = (await draw(engine, **JOBS[5]))[0]
    assert [difference(one, other) <= 1 for one, other in zip(merged, added, strict=True)] == [True] * len(JOBS)
    assert difference(alone, added[5]) <= 1


@pytest.mark.parametrize("scheduler", ["euler_a", "dpm++", "unipc", "ddim"])
async def test_those_who_stay_notice_nothing_when_others_leave_their_batch(
    engine: ImageEngine, scheduler: str
) -> None:
    jobs: list[JsonObject] = [{**job, "scheduler": scheduler} for job in JOBS[:4]]
    staying = (1, 3)
    running = [
        asyncio.create_task(listen(engine, {"steps": 30, **job}, f"job_{n}", "image")) for n, job in enumerate(jobs)
    ]
    drawings = engine._inside  # noqa: SLF001 - to abort while a batch is half drawn
    while not any(canvas.step > 2 for one in drawings.values() for canvas in one.canvases):  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.005)
    for number in (0, 2):
        await engine.abort(f"job_{number}")
    done = await asyncio.gather(*running)
    assert [isinstance(events[-1], Finished) for events in done] == [False, True, False, True]
    for number in staying:
        [kept] = [pixels(event.content) for event in done[number] if isinstance(event, Produced)]
        [alone] = await draw(engine, **{"steps": 30, **jobs[number]})
        assert difference(kept, alone) <= 1


@pytest.mark.parametrize("scheduler", [None, "euler", "euler_a", "dpm++", "unipc"])
async def test_previews_show_from_the_first_what_the_picture_will_be(
    engine: ImageEngine, scheduler: str | None
) -> None:
    events = await listen(engine, {**CIRCLE, "steps": 12, "scheduler": scheduler}, kind="image")
    previews = [pixels(event.content) for event in events if isinstance(event, Preview)]
    [final] = [pixels(event.content) for event in events if isinstance(event, Produced)]
    assert len(previews) == 5
    for preview in previews:
        red, green, blue = np.median(preview[56:72, 56:72], axis=(0, 1))
        assert red > max(green, blue) + 80
        assert np.median(preview[:8, :8]) > 180  # paper
    small = np.asarray(Image.fromarray(final.astype(np.uint8)).resize((128, 128))).astype(np.int16)
    assert change(small, previews[-1]) < 20
    assert change(small, previews[-1]) < change(small, previews[0])


async def test_an_adapter_that_would_load_partly_is_refused(tmp_path: Any) -> None:
    whole = load_file(SKETCH / "adapters" / "night" / "pytorch_lora_weights.safetensors")
    first = next(iter(whole))
    pair = {"lora_A.weight": torch.zeros(8, 64), "lora_B.weight": torch.zeros(64, 8)}
    wrong = {
        "unknown": {**whole, **{f"unet.nowhere.{key}": value for key, value in pair.items()}},
        "unpaired": {key: value for key, value in whole.items() if key != first},
        "misshapen": {**whole, first: torch.zeros(8, 7)},
        "foreign": {**whole, **{f"text_encoder_2.x.{key}": value for key, value in pair.items()}},
        "stray": {**whole, "something": torch.zeros(1)},
        "dora": {**whole, "unet.conv_in.dora_scale": torch.ones(32, 1, 1, 1)},
        "empty": {},
        "spoilt": {name: tensor * torch.nan for name, tensor in whole.items()},
    }
    real = painter.DiffusersPainter(str(SKETCH / "weights"), revision="main", device="cpu0", options=ImageOptions())
    for name, tensors in wrong.items():
        path = tmp_path / f"{name}.safetensors"
        save_file(tensors, path)
        with pytest.raises(
            EngineRefusedError, match=f"The adapter '{name}' (does not fit|cannot be read|holds weights that are no)"
        ):
            real.read_adapter(AdapterFile(name, name, name, path, 8, is_catalog=False))


async def test_the_demos_checker_blocks_what_a_prompt_provokes(engine: ImageEngine) -> None:
    """A disc of skin's hue fills half of the sheet; nobody sees it, nor how it came to be."""
    given = {"prompt": "a brown circle", "n": 4, "seed": 8, "safety_mode": "block"}
    *others, finished = await listen(engine, given, kind="image")
    assert isinstance(finished, Finished)
    assert finished.output["safety"] == {"mode": "block", "checker": "basic", "blocked": 4}
    assert all(re.fullmatch(r"\d\d% of it have the hue of skin", one["blocked"]) for one in finished.output["images"])
    assert not [one for one in others if isinstance(one, Produced)]
    for prompt in ("a red circle", "an orange heart", "a brown star", "a pink ring"):
        events = await listen(engine, {**given, "prompt": prompt}, kind="image")
        assert sum(isinstance(one, Produced) for one in events) == 4, prompt


async def test_its_recipe_makes_the_same_picture_again(engine: ImageEngine) -> None:
    events = await listen(engine, {**JOBS[5], "n": 2}, kind="image")
    second = [event.content for event in events if isinstance(event, Produced)][1]
    with Image.open(io.BytesIO(second)) as opened:
        recipe = json.loads(opened.info["stoker"])
    asked = {"prompt", "negative_prompt", "width", "height", "steps", "guidance", "scheduler", "seed", "adapters"}
    assert recipe.keys() == asked | {"model", "revision"}  # and nothing about where they lie
    adapters = [{"id": one["id"], "strength": one["strength"]} for one in recipe["adapters"]]
    said = {name: recipe[name] for name in ("prompt", "negative_prompt", "width", "height", "steps", "guidance")}
    [again] = await draw(engine, **said, seed=recipe["seed"], adapters=adapters)
    assert difference(pixels(second), again) <= 1
