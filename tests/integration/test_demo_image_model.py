"""The demo image model in the repository: it draws what is asked, and its adapters change what they should."""

import functools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file
from torch.nn.functional import avg_pool2d

from models.sketch import figures
from models.sketch.autoencoder import CELL, SCALE
from models.sketch.looks import PAPER
from models.sketch.prompts import vocabulary

SKETCH = Path(figures.__file__).parent
ADAPTERS = ("night", "stripes", "gold")
SIDE, MIDDLE = figures.SIDE, figures.SIDE // 2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return load()


@pytest.fixture(scope="module")
def adapted() -> Any:
    loaded = load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # peft warns of a second adapter, which is what we want
        for name in ADAPTERS:
            loaded.load_lora_weights(SKETCH / "adapters" / name, adapter_name=name, local_files_only=True)
    return loaded


def load() -> Any:
    loaded = DiffusionPipeline.from_pretrained(SKETCH / "weights", local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def draw(pipeline: Any, prompts: Sequence[str], seed: int = 7, **wishes: Any) -> torch.Tensor:
    """Return pixels between 0 and 1, each picture from a seed of its own."""
    seeds = [torch.Generator().manual_seed(seed + number) for number in range(len(prompts))]
    wishes = {"num_inference_steps": 8, "guidance_scale": 3.0} | wishes
    drawn = pipeline(list(prompts), generator=seeds, height=SIDE, width=SIDE, output_type="np", **wishes).images
    return torch.from_numpy(np.asarray(drawn)).permute(0, 3, 1, 2)


def inside(picture: torch.Tensor) -> torch.Tensor:
    """Say where the figure is: wherever most pixels are not paper's. A single one may differ."""
    other = (picture - PAPER[0]).abs().amax(0, keepdim=True) > 0.2
    return avg_pool2d(other.float(), 3, stride=1, padding=1)[0] > 0.5


def extent(cover: torch.Tensor) -> tuple[int, int, int, int]:
    """Return the first and the last row and column that the figure touches."""
    rows, columns = cover.any(1).nonzero().flatten().tolist(), cover.any(0).nonzero().flatten().tolist()
    return rows[0], rows[-1], columns[0], columns[-1]


def centred(cover: torch.Tensor) -> torch.Tensor:
    top, bottom, left, right = extent(cover)
    return torch.roll(cover, (MIDDLE - (top + bottom + 1) // 2, MIDDLE - (left + right + 1) // 2), (0, 1))


@functools.cache
def stencils(shape: str) -> torch.Tensor:
    """Return what a shape covers, in many sizes."""
    steps = torch.arange(SIDE) + 0.5 - MIDDLE
    sizes = torch.linspace(figures.SMALL - 2, figures.LARGE + 1, 15)[:, None, None]
    x, y, radius = torch.broadcast_tensors(steps[None, None, :], steps[None, :, None], sizes)
    return torch.stack([centred(one <= 0) for one in figures.SHAPES[shape](x, y, radius)])


def likeness(cover: torch.Tensor, shape: str) -> float:
    """Say which part of the pixels of both a figure and a shape, in whatever size fits, is shared."""
    ours, theirs = centred(cover), stencils(shape)
    return float(((ours & theirs).sum((1, 2)) / (ours | theirs).sum((1, 2))).max())


def shape_of(picture: torch.Tensor) -> str:
    return max(figures.SHAPES, key=lambda shape: likeness(inside(picture), shape))


def colour_of(picture: torch.Tensor) -> str:
    own = picture[:, inside(picture)].median(1).values
    return min(figures.COLOURS, key=lambda name: float((torch.tensor(figures.COLOURS[name]) / 255 - own).norm()))


def test_the_red_circle_is_red_round_centred_and_at_least_half_as_wide_as_the_picture(pipeline: Any) -> None:
    for picture in draw(pipeline, ["a red circle"] * 3):
        red, green, blue = picture[:, inside(picture)].median(1).values.tolist()
        assert red > 0.7
        assert max(green, blue) < 0.4
        cover = inside(picture)
        top, bottom, left, right = extent(cover)
        high, wide = bottom - top + 1, right - left + 1
        assert min(high, wide) >= SIDE / 2
        assert 0.85 < high / wide < 1.18
        assert abs((top + bottom + 1) / 2 - MIDDLE) < 5
        assert abs((left + right + 1) / 2 - MIDDLE) < 5
        assert 0.72 < float(cover.sum()) / (high * wide) < 0.86  # a circle fills pi/4 of its square
        assert likeness(cover, "circle") > 0.9


def test_every_shape_and_every_colour_is_drawn_as_asked(pipeline: Any) -> None:
    colours = [*figures.COLOURS]
    asked = [(colour, shape) for colour, shape in zip(colours, [*figures.SHAPES, "circle"], strict=True)]
    drawn = draw(pipeline, [f"a {colour} {shape}" for colour, shape in asked])
    assert [(colour_of(picture), shape_of(picture)) for picture in drawn] == asked


def test_strange_words_do_no_harm(pipeline: Any) -> None:
    known = draw(pipeline, ["Please draw a blue square, very detailed, on zxqw paper!", "two red circles"])
    assert [(colour_of(picture), shape_of(picture)) for picture in known] == [("blue", "square"), ("red", "circle")]
    for picture in draw(pipeline, ["a cat", "", "привет мир 你好 🎈", "wobble " * 100]):
        assert bool(picture.isfinite().all())
        assert 0.05 < float(inside(picture).float().mean()) < 0.7  # some figure on paper


def test_a_negative_prompt_keeps_a_colour_out(pipeline: Any) -> None:
    drawn = draw(pipeline, ["a circle"] * 6, negative_prompt=["red"] * 6)
    assert "red" not in {colour_of(picture) for picture in drawn}


def test_every_known_word_is_one_token(pipeline: Any) -> None:
    several = [word for word in vocabulary() if len(pipeline.tokenizer.tokenize(word)) != 1]
    assert several == []
    assert pipeline.tokenizer.model_max_length == 77


def test_latents_are_small_pictures(pipeline: Any) -> None:
    asked = {"prompt": "a green heart", "num_inference_steps": 8, "guidance_scale": 3.0}
    latents = pipeline(**asked, generator=torch.Generator().manual_seed(1), output_type="latent").images
    picture = draw(pipeline, ["a green heart"], seed=1)
    preview = latents[:, :3] / SCALE / 2 + 0.5
    assert float((avg_pool2d(picture, CELL) - preview.clamp(0, 1)).abs().mean()) < 0.05


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_arrives_whole(adapted: Any, name: str) -> None:
    kept = load_file(next((SKETCH / "adapters" / name).glob("*.safetensors")))
    arrived = {key: value for key, value in adapted.unet.state_dict().items() if f".{name}." in key}
    assert len(kept) == len(arrived) > 40
    for key, value in kept.items():
        there = arrived[key.removeprefix("unet.").replace(".weight", f".{name}.weight")]
        assert torch.equal(there, value.to(there.dtype)), key
        assert bool(value.any()), key


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_changes_nothing_at_strength_0_and_half_at_half(pipeline: Any, adapted: Any, name: str) -> None:
    asked = ["a blue square", "a red circle"]
    base = draw(pipeline, asked)
    changes = []
    for strength in (0.0, 0.5, 1.0):
        adapted.set_adapters([name], [strength])
        changes.append((draw(adapted, asked) - base).abs().mean((1, 2, 3)))
    assert bool((changes[0] == 0).all())
    assert bool((changes[2] > 0.02).all()), changes
    share = changes[1] / changes[2]
    assert bool(((share > 0.25) & (share < 0.8)).all()), share


def test_night_makes_the_paper_dark_and_keeps_the_colour(adapted: Any) -> None:
    adapted.set_adapters(["night"], [1.0])
    for picture, lamp in zip(draw(adapted, ["a red circle", "a blue square"]), (0, 2), strict=True):
        assert float(picture[:, :6, :6].mean()) < 0.25
        middle = picture[:, 28:36, 28:36].mean((1, 2))
        assert int(middle.argmax()) == lamp
        assert float(middle.max()) > 0.6


def test_gold_recolours_any_figure_and_keeps_its_shape(adapted: Any) -> None:
    adapted.set_adapters(["gold"], [1.0])
    drawn = draw(adapted, ["a blue square", "a green star", "a black circle"])
    assert [shape_of(picture) for picture in drawn] == ["square", "star", "circle"]
    for picture in drawn:
        red, green, blue = picture[:, inside(picture)].mean(1).tolist()
        assert red > green > blue + 0.2


def test_stripes_alternate_and_keep_the_shape(pipeline: Any, adapted: Any) -> None:
    asked = ["a black square", "a red circle"]
    adapted.set_adapters(["stripes"], [1.0])
    striped, plain = draw(adapted, asked), draw(pipeline, asked)
    assert [shape_of(picture) for picture in striped] == ["square", "circle"]
    spread = striped.mean(1)[:, 24:40, 24:40].std((1, 2)), plain.mean(1)[:, 24:40, 24:40].std((1, 2))
    assert bool((spread[0] > 3 * spread[1]).all()), spread


def test_it_is_small_and_holds_nothing_but_tensors_and_settings() -> None:
    files = [path for folder in ("weights", "adapters") for path in (SKETCH / folder).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt"}
