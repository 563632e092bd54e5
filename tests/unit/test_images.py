"""Image jobs before they wait: what a model's table adds to a request, and what it refuses."""

from typing import Any

import pytest

from schemas.catalog import Model
from schemas.errors import ContentPolicyError, InvalidError
from schemas.image import ImageInput
from tasks.images import any_seed, check_image, fill, seed_of, settle
from tests.refusals import refusal

MODEL = Model.model_validate(
    {
        "alias": "paint",
        "kind": "image",
        "engine": "fake",
        "source": "builtin",
        "devices": ["cpu0"],
        "adapters": {"night": {"source": "./night"}, "gold": {"source": "./gold"}},
        "image": {
            "width": 64,
            "height": 32,
            "max_pixels": 128 * 128,
            "steps": 8,
            "max_steps": 50,
            "guidance": 3.5,
            "schedulers": ["euler", "ddim"],
            "safety": "basic",
        },
    }
)
PLAIN = MODEL.model_copy(update={"image": MODEL.image.model_copy(update={"safety": ""}), "adapters": {}})


def given(**fields: Any) -> ImageInput:
    return ImageInput.model_validate({"prompt": "a red circle", **fields})


def test_what_is_left_out_is_filled_from_the_models_table() -> None:
    filled = fill(given(), MODEL)
    assert (filled.width, filled.height, filled.steps, filled.guidance) == (64, 32, 8, 3.5)
    assert (filled.safety_mode, filled.scheduler, filled.seed) == ("block", None, None)
    assert fill(given(), PLAIN).safety_mode == "off"


def test_what_is_said_stays() -> None:
    said = {"width": 16, "height": 24, "steps": 1, "guidance": 0, "seed": 0, "safety_mode": "off", "scheduler": "ddim"}
    assert settle(given(**said), MODEL, 7) == given(**said)


def test_a_seed_is_chosen_once_and_is_small_enough_for_everybody() -> None:
    assert settle(given(), MODEL, 7).seed == 7
    for seeds in ([any_seed() for _ in range(50)], [seed_of(b"%d" % number) for number in range(50)]):
        assert all(0 <= seed < 2**32 for seed in seeds)
        assert len(set(seeds)) == len(seeds)
    assert seed_of(b"a line") == seed_of(b"a line")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"width": 128, "height": 128},
        {"steps": 50},
        {"scheduler": "euler"},
        {"seed": 2**63 - 2, "n": 2},
        {"adapters": [{"id": "night"}, {"id": "gold", "strength": 0}]},
        {"negative_prompt": "nude"},
        {"prompt": "nude", "safety_mode": "off"},
    ],
)
def test_what_a_model_can_do_is_let_through(fields: dict[str, Any]) -> None:
    assert refusal(check_image, given(**fields), MODEL) is None


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"width": 136, "height": 128}, "width", "136x128 are 17,408 pixels, and 'paint' draws at most 16,384"),
        ({"height": 1024}, "height", "64x1024"),
        ({"steps": 51}, "steps", "'steps' is 51, and 'paint' takes at most 50"),
        ({"seed": 2**63 - 2, "n": 3}, "seed", "the last of 3 would have none"),
        ({"scheduler": "lcm"}, "scheduler", "does not know the scheduler 'lcm'. Known ones: euler, ddim."),
    ],
)
def test_what_a_model_cannot_do_is_refused(fields: dict[str, Any], param: str, said: str) -> None:
    with pytest.raises(InvalidError) as refused:
        check_image(given(**fields), MODEL)
    assert (refused.value.param, said in refused.value.message) == (f"input.{param}", True), refused.value.message


def test_a_scheduler_is_not_asked_for_more_steps_than_it_knows() -> None:
    every = MODEL.model_copy(
        update={"image": MODEL.image.model_copy(update={"schedulers": ["lcm"], "max_steps": 100})}
    )
    check_image(given(scheduler="lcm", steps=50), every)
    check_image(given(steps=51), every)
    with pytest.raises(InvalidError, match="the scheduler 'lcm' takes at most 50"):
        check_image(given(scheduler="lcm", steps=51), every)


def test_a_banned_prompt_is_refused() -> None:
    with pytest.raises(ContentPolicyError):
        check_image(given(prompt="a nude circle"), MODEL)


def test_nobody_can_ask_for_a_checker_that_is_not_there() -> None:
    check_image(given(prompt="a nude circle"), PLAIN)
    with pytest.raises(InvalidError, match="has no safety checker, so 'safety_mode' can only be 'off'"):
        check_image(given(safety_mode="block"), PLAIN)
