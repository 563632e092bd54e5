"""The image engine under a safety checker: what is blocked is seen by nobody, and the output says so."""

from schemas.base import JsonObject
from schemas.events import EngineEvent, Finished, Preview, Produced
from tests.engines import listen, model
from tests.painters import ToyLibrary, ToyPainter
from workers.engines.image import ImageEngine

GIVEN: JsonObject = {"prompt": "x", "n": 8, "seed": 0, "safety_mode": "block"}


class DislikesDarkRed:
    """Blocks plain pictures with little red in them; of the toy's eight colours these are some."""

    def judge_prompt(self, prompt: str) -> str | None:
        """Say nothing."""

    def judge_picture(self, width: int, height: int, rgb: bytes) -> str | None:
        """Look at the first pixel."""
        assert len(rgb) == width * height * 3
        return "it has little red" if rgb[0] < 128 else None


async def draw(given: JsonObject) -> list[EngineEvent]:
    image = {"width": 16, "height": 8, "steps": 4, "preview_every": 2, "safety": f"{__name__}:DislikesDarkRed"}
    engine = ImageEngine(model("diffusers", "image", image=image), lambda _: ToyPainter(), ToyLibrary())
    await engine.load()
    events = await listen(engine, given, kind="image")
    await engine.close()
    return events


async def test_blocked_pictures_are_left_out_and_the_output_says_so() -> None:
    *events, finished = await draw(GIVEN)
    assert isinstance(finished, Finished)
    images, names = finished.output["images"], [one.name for one in events if isinstance(one, Produced)]
    blocked = [image for image in images if image.get("blocked")]
    assert 0 < len(blocked) < 8
    assert {(image["name"], image["blocked"]) for image in blocked} == {(None, "it has little red")}
    assert [image["name"] for image in images if image["name"]] == names
    assert [image["seed"] for image in images] == list(range(8))
    assert finished.output["safety"]["mode"] == "block"
    assert finished.output["safety"]["blocked"] == len(blocked)
    everything = await draw({**GIVEN, "safety_mode": "off"})
    assert len([one for one in everything if isinstance(one, Produced)]) == 8


async def test_blocked_pictures_have_no_previews() -> None:
    dark = next(image["seed"] for image in (await draw(GIVEN))[-1].output["images"] if image.get("blocked"))  # type: ignore[union-attr]  # Finished comes last
    for mode, count in (("block", 0), ("off", 1)):
        events = await draw({**GIVEN, "n": 1, "seed": dark, "safety_mode": mode})
        assert sum(isinstance(one, Preview) for one in events) == count
