"""The image engine's books, on a painter without torch: who shares a batch, what is told, who is left out."""

import asyncio
import gc
import io
import json
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from PIL import Image

from schemas.base import JsonObject
from schemas.errors import AdapterGoneError, EngineDeadError, EngineError, EngineRefusedError
from schemas.events import EngineEvent, Finished, Preview, Produced, ProgressMade
from schemas.image import ImageInput
from tasks.engine import EngineRequest, EngineState
from tasks.safety import Guard
from tests.engines import ask, listen, model
from tests.painters import POISON, ToyLibrary, ToyPainter, toy_image_engine
from workers.engines import image
from workers.engines.drawing import Drawing
from workers.engines.image import ImageEngine


@pytest.fixture
def painter() -> ToyPainter:
    return ToyPainter()


@pytest.fixture
def library() -> ToyLibrary:
    return ToyLibrary()


@pytest.fixture
async def engine(painter: ToyPainter, library: ToyLibrary) -> AsyncIterator[ImageEngine]:
    """An engine with 100 slots, ready, whose batches are as large however slow this machine is."""
    made = toy_image_engine(painter, 100, library, batch_seconds=3600)
    await made.load()
    await made.warm_up(None)
    yield made
    painter.may_go.set()
    await made.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what other threads bring about."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - it comes without an event
            await asyncio.sleep(0.005)


def start(engine: ImageEngine, job_id: str, **given: Any) -> asyncio.Task[list[EngineEvent]]:
    return asyncio.create_task(listen(engine, {"prompt": job_id, "seed": 1, **given}, job_id, "image"))


async def occupy(engine: ImageEngine, painter: ToyPainter) -> asyncio.Task[list[EngineEvent]]:
    """Have the painter stand still in a first batch."""
    painter.may_go.clear()
    first = start(engine, "first")
    await until(lambda: bool(painter.batches))
    return first


async def draw_together(engine: ImageEngine, painter: ToyPainter, *jobs: JsonObject) -> list[list[EngineEvent]]:
    """Have jobs wait together while another batch is drawn."""
    first = await occupy(engine, painter)
    running = [start(engine, f"job_{number}", **given) for number, given in enumerate(jobs)]
    wanted = sum(given.get("n", 1) for given in jobs)
    await until(lambda: bool(engine.stats()["waiting_images"] == wanted))
    painter.may_go.set()
    await first
    return await asyncio.gather(*running)


def picture(events: list[EngineEvent]) -> bytes:
    return next(event.content for event in events if isinstance(event, Produced))


def sizes(painter: ToyPainter) -> list[int]:
    return [len(batch) for batch in painter.batches]


async def test_jobs_share_a_batch_whatever_they_ask_for_and_whatever_changes_it(
    engine: ImageEngine, painter: ToyPainter
) -> None:
    jobs: list[JsonObject] = [
        {"adapters": [{"id": "lora_a"}]},
        {"adapters": [{"id": "lora_a", "strength": 0.5}]},
        {"adapters": [{"id": "lora_b"}, {"id": "lora_c", "strength": 0.2}]},
        {"n": 3},
        {"format": "jpeg"},
    ]
    together = await draw_together(engine, painter, *jobs)
    assert sizes(painter) == [1, 7]
    uses = {canvas.prompt: canvas.adapters for canvas in painter.batches[1]}
    assert uses == {
        "job_0": [("a", 1.0)],
        "job_1": [("a", 0.5)],
        "job_2": [("b", 1.0), ("c", 0.2)],
        "job_3": [],
        "job_4": [],
    }
    made = [events[-1].output["images"] for events in together if isinstance(events[-1], Finished)]
    assert [len(images) for images in made] == [1, 1, 1, 3, 1]


@pytest.mark.parametrize(
    "other", [{"steps": 5}, {"guidance": 2.0}, {"width": 24}, {"scheduler": "ddim"}, {"negative_prompt": "blue"}]
)
async def test_what_images_do_not_agree_on_parts_them(
    engine: ImageEngine, painter: ToyPainter, other: JsonObject
) -> None:
    await draw_together(engine, painter, {}, other, {})
    assert sizes(painter) == [1, 2, 1]


async def test_every_image_has_its_own_seed(engine: ImageEngine, painter: ToyPainter) -> None:
    events = await listen(engine, {"prompt": "x", "seed": 41, "n": 3}, kind="image")
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert [one["seed"] for one in finished.output["images"]] == [41, 42, 43]
    assert [canvas.seed for canvas in painter.batches[0]] == [41, 42, 43]


async def test_a_picture_says_how_it_was_made(engine: ImageEngine) -> None:
    given = {
        "prompt": "ein rotes Rad 🎈",
        "negative_prompt": "blue",
        "seed": 5,
        "n": 2,
        "adapters": [{"id": "lora_a", "strength": 0.5}],
        "scheduler": "ddim",
    }
    events = await listen(engine, given, kind="image")
    second = [event for event in events if isinstance(event, Produced)][1]
    assert (second.name, second.content_type) == ("image-1.png", "image/png")
    with Image.open(io.BytesIO(second.content)) as opened:
        assert opened.size == (16, 8)
        said = json.loads(opened.info["stoker"])
    assert said == {
        "prompt": "ein rotes Rad 🎈",
        "negative_prompt": "blue",
        "width": 16,
        "height": 8,
        "steps": 4,
        "guidance": 7.0,
        "scheduler": "ddim",
        "adapters": [{"id": "lora_a", "strength": 0.5, "sha256": "a"}],
        "model": "m",
        "revision": "main",
        "seed": 6,
    }


async def test_a_jpeg_says_it_too(engine: ImageEngine) -> None:
    events = await listen(engine, {"prompt": "x", "seed": 5, "format": "jpeg"}, kind="image")
    produced = next(event for event in events if isinstance(event, Produced))
    assert (produced.name, produced.content_type) == ("image-0.jpg", "image/jpeg")
    with Image.open(io.BytesIO(produced.content)) as opened:
        assert json.loads(opened.info["comment"])["seed"] == 5


@pytest.mark.parametrize(("prompts", "is_said"), [({}, True), ({"negative_prompt": "🎈" * 10_000}, False)])
async def test_a_jpeg_is_made_with_prompts_that_do_not_fit_into_it(
    engine: ImageEngine, prompts: JsonObject, *, is_said: bool
) -> None:
    events = await listen(engine, {"prompt": "🎈" * 10_000, "format": "jpeg", **prompts}, kind="image")
    produced = next(event for event in events if isinstance(event, Produced))
    with Image.open(io.BytesIO(produced.content)) as opened:
        opened.load()
        assert ("comment" in opened.info) == is_said
        assert not is_said or json.loads(opened.info["comment"])["prompt"] == "🎈" * 10_000


async def test_progress_grows_to_the_end_and_previews_are_pictures(engine: ImageEngine) -> None:
    events = await listen(engine, {"prompt": "x", "steps": 8}, kind="image")
    told = [event.fraction for event in events if isinstance(event, ProgressMade)]
    assert told == [step / 8 for step in range(1, 9)]
    previews = [event for event in events if isinstance(event, Preview)]
    assert len(previews) == 3  # every second step, but for the last
    with Image.open(io.BytesIO(previews[0].content)) as opened:
        assert opened.size == (128, 64)
        assert opened.get_format_mimetype() == previews[0].content_type


async def test_progress_is_not_taken_back_by_a_batch_that_is_drawn_again() -> None:
    line = model("diffusers", "image")
    given = ImageInput(prompt="x", width=16, height=8, steps=4, guidance=1, seed=1)
    drawing = Drawing(given, Guard(given, line))
    [canvas] = drawing.prepare(line, [])
    for canvas.step in (1, 3, 1, 2, 3, 4):
        drawing.tell_progress()
    told = [drawing.news.get_nowait() for _ in range(drawing.news.qsize())]
    assert told == [ProgressMade(fraction, "draw") for fraction in (0.25, 0.75, 1.0)]


async def test_strength_0_is_the_model_without_it(engine: ImageEngine, painter: ToyPainter) -> None:
    given = {"prompt": "x", "seed": 1}
    plain = await listen(engine, given, kind="image")
    changed = await listen(engine, {**given, "adapters": [{"id": "lora_a", "strength": 0}]}, kind="image")
    assert painter.batches[1][0].adapters == []
    with Image.open(io.BytesIO(picture(plain))) as one, Image.open(io.BytesIO(picture(changed))) as other:
        assert one.tobytes() == other.tobytes()


async def test_whoever_is_aborted_is_wanted_no_more_and_the_others_go_on(
    engine: ImageEngine, painter: ToyPainter
) -> None:
    first = await occupy(engine, painter)
    running = [start(engine, f"job_{number}") for number in range(3)]
    await until(lambda: bool(engine.stats()["waiting_images"] == 3))
    painter.stops_at = 2
    painter.may_go.set()
    await until(lambda: len(painter.batches) == 2)
    await engine.abort("job_1")
    painter.may_go.set()
    done = await asyncio.gather(first, *running)
    assert [any(isinstance(event, Finished) for event in events) for events in done] == [True, True, False, True]
    assert engine.capacity().free == 16


async def test_a_batch_that_nobody_wants_ends_within_a_step(engine: ImageEngine, painter: ToyPainter) -> None:
    painter.may_go.clear()
    running = start(engine, "job_1", steps=100)
    await until(lambda: bool(painter.batches))
    await engine.abort("job_1")
    assert not any(isinstance(event, Finished) for event in await running)
    painter.may_go.set()
    await listen(engine, {"prompt": "next", "steps": 1}, kind="image")
    assert painter.steps_made <= 2 + 1


async def test_images_that_wait_are_dropped_when_aborted(engine: ImageEngine, painter: ToyPainter) -> None:
    first = await occupy(engine, painter)
    waiting = start(engine, "job_1")
    await until(lambda: bool(engine.stats()["waiting_images"] == 1))
    await engine.abort("job_1")
    assert engine.stats()["waiting_images"] == 0
    painter.may_go.set()
    await asyncio.gather(first, waiting)
    assert sizes(painter) == [1]


async def test_memory_that_runs_out_halves_the_batch_and_fails_nobody(
    engine: ImageEngine, painter: ToyPainter
) -> None:
    painter.fitting = 3
    done = await draw_together(engine, painter, *({} for _ in range(8)))
    assert all(isinstance(events[-1], Finished) for events in done)
    assert sizes(painter) == [1, 8, 4, 2, 2, 2, 2]
    assert painter.gave_back == 2


async def test_one_image_that_does_not_fit_is_tried_again_and_then_told(
    engine: ImageEngine, painter: ToyPainter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "SHORTAGE_SECONDS", 0.001)
    await ask(engine, {"prompt": "x", "adapters": [{"id": "lora_a"}]}, kind="image")
    painter.fitting = 0
    with pytest.raises(EngineError, match="too little memory for 16x8; ask for a smaller image") as raised:
        await listen(engine, {"prompt": "x"}, kind="image")
    assert raised.value.retryable
    assert sizes(painter) == [1] * (1 + image.SHORTAGES + 1)
    assert not engine.adapters()  # the memory of those that nobody uses is given back first
    painter.fitting = None
    assert (await ask(engine, {"prompt": "x"}, kind="image")).output["images"]


async def test_what_was_measured_bounds_the_next_batch(engine: ImageEngine, painter: ToyPainter) -> None:
    painter.free = 250  # an image takes 100, and a tenth is left free
    await draw_together(engine, painter, *({} for _ in range(4)))
    assert sizes(painter) == [1, 2, 2]


async def test_an_image_that_fails_fails_its_job_only(engine: ImageEngine, painter: ToyPainter) -> None:
    first = await occupy(engine, painter)
    running = [start(engine, f"job_{number}", prompt=prompt) for number, prompt in enumerate(["a", POISON, "b"])]
    await until(lambda: bool(engine.stats()["waiting_images"] == 3))
    painter.may_go.set()
    done = await asyncio.gather(first, *running, return_exceptions=True)
    assert isinstance(done[2], EngineError)
    assert "image 0" in done[2].message
    for others in (done[1], done[3]):
        assert isinstance(others, list)
        assert isinstance(others[-1], Finished)


async def test_what_the_engine_cannot_is_refused(engine: ImageEngine) -> None:
    with pytest.raises(EngineRefusedError, match="cannot use the scheduler 'lcm', only euler, ddim"):
        await listen(engine, {"prompt": "x", "scheduler": "lcm"}, kind="image")
    with pytest.raises(AdapterGoneError):
        await listen(engine, {"prompt": "x", "adapters": [{"id": "nobody"}]}, kind="image")
    with pytest.raises(EngineRefusedError, match="'broken' does not fit"):
        await listen(engine, {"prompt": "x", "adapters": [{"id": "lora_broken"}]}, kind="image")
    assert engine.capacity().free == 16


async def test_the_gate_closes_when_two_batches_are_inside(engine: ImageEngine, painter: ToyPainter) -> None:
    assert engine.capacity().free == 16
    first = await occupy(engine, painter)
    many = start(engine, "many", n=14)
    await until(lambda: bool(engine.stats()["waiting_images"] == 14))
    assert engine.capacity().free == 7  # what does not go into a batch of its own leaves others their turn
    more = start(engine, "more", n=6)
    await until(lambda: bool(engine.stats()["waiting_images"] == 20))
    assert engine.capacity().free == 1
    last = start(engine, "last", n=1)
    await until(lambda: bool(engine.stats()["waiting_images"] == 21))
    assert engine.capacity().free == 0
    painter.may_go.set()
    await asyncio.gather(first, many, more, last)
    assert engine.capacity().free == 16


async def test_a_small_request_does_not_wait_for_all_of_a_large_one(engine: ImageEngine, painter: ToyPainter) -> None:
    first = await occupy(engine, painter)
    large = start(engine, "large", n=16, width=64, height=64)
    await until(lambda: bool(engine.stats()["waiting_images"] == 16))
    small = start(engine, "small")
    await until(lambda: bool(engine.stats()["waiting_images"] == 17))
    painter.may_go.set()
    await asyncio.gather(first, large, small)
    assert [batch[0].prompt for batch in painter.batches[1:]] == ["large", "small", "large"]


async def test_adapters_in_memory_are_told(engine: ImageEngine) -> None:
    await listen(engine, {"prompt": "x", "adapters": [{"id": "lora_a"}]}, kind="image")
    assert engine.stats()["adapters"] == ["lora_a"]


async def test_a_painter_that_loses_its_device_takes_the_engine_with_it(
    engine: ImageEngine, painter: ToyPainter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> None:
        raise EngineDeadError

    monkeypatch.setattr(painter, "draw", lose)
    with pytest.raises(EngineDeadError):
        await listen(engine, {"prompt": "x"}, kind="image")
    assert engine.state is EngineState.DEAD


async def test_a_seed_is_chosen_and_told_when_there_is_none(engine: ImageEngine) -> None:
    chosen = {(await ask(engine, {"prompt": "x"}, kind="image")).output["images"][0]["seed"] for _ in range(3)}
    assert len(chosen) == 3


async def test_what_a_request_held_is_free_at_its_end_and_not_when_garbage_is_collected(
    engine: ImageEngine, painter: ToyPainter
) -> None:
    first = await occupy(engine, painter)
    drawing = weakref.ref(engine._inside["first"])  # noqa: SLF001 - nobody else has it
    gc.disable()
    try:
        painter.may_go.set()
        assert isinstance((await first)[-1], Finished)
        painter.batches.clear()
        await until(lambda: drawing() is None)
    finally:
        gc.enable()


async def test_a_caller_that_goes_away_leaves_nothing(engine: ImageEngine, painter: ToyPainter) -> None:
    painter.may_go.clear()
    events = engine.run(EngineRequest("job_1", 1, "image", {"prompt": "x", "n": 3}))
    running = asyncio.ensure_future(anext(events))
    await until(lambda: bool(painter.batches))
    running.cancel()
    await asyncio.wait([running])
    await events.aclose()
    painter.may_go.set()
    assert engine.capacity().free == 16
    assert engine.stats()["waiting_images"] == 0
