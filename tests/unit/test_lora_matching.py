"""Which adapters fit a model: every tensor has its layer, or the sentence says which one has not."""

import re
from pathlib import Path
from typing import Any

import pytest

from schemas.catalog import Model
from schemas.errors import InvalidError, UnavailableError
from schemas.jobs import Kind
from storage.objects.memory import MemoryObjectStore
from tasks.loras.bases import Bases
from tasks.loras.header import HeaderReader
from tasks.loras.matching import Base, Fit, fit
from tasks.weights import Weights
from tests.safetensors_files import Shapes, image_base, image_lora, text_base, text_lora, weights_file

ROOT = Path(__file__).parents[2]
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"


def model(kind: str, source: str) -> Model:
    given = {"alias": "m", "kind": kind, "engine": "fake", "source": source, "devices": ["cpu0"]}
    return Model.model_validate(given)


def read_base(kind: str, source: str) -> Base:
    return Bases(Weights(lambda _: MemoryObjectStore(), Path())).read(model(kind, source))


@pytest.fixture
def text(tmp_path: Path) -> Base:
    return read_base("text", text_base(tmp_path / "text"))


@pytest.fixture
def image(tmp_path: Path) -> Base:
    return read_base("image", image_base(tmp_path / "image"))


def judge(shapes: Shapes, base: Base, kind: Kind) -> Fit:
    content = weights_file(shapes)
    reader = HeaderReader()
    reader.feed(content)
    return fit(reader.finish(len(content)), base, kind, "m")


def refusal(shapes: Shapes, base: Base, kind: Kind) -> str:
    with pytest.raises(InvalidError) as refused:
        judge(shapes, base, kind)
    assert len(refused.value.message) < 800
    return refused.value.message


def kohya(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The same tensors as kohya's scripts name them, with an alpha for each layer."""
    renamed: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        match = re.fullmatch(r"(unet|text_encoder)\.(.+)\.lora_([AB])\.weight", name)
        assert match
        part = {"unet": "unet", "text_encoder": "te"}[match[1]]
        begin = f"lora_{part}_{match[2].replace('.', '_')}"
        renamed[f"{begin}.lora_{'down' if match[3] == 'A' else 'up'}.weight"] = shape
        renamed[f"{begin}.alpha"] = ()
    return renamed


def older(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return {
        name.replace("lora_A", "lora.down").replace("lora_B", "lora.up"): shape
        for name, shape in shapes.items()
        if name.startswith("unet.")
    }


def test_a_text_adapter_fits(text: Base) -> None:
    found = judge(text_lora(3) | text_lora(3, "model.layers.0.mlp.up_proj"), text, Kind.TEXT)
    assert (found.rank, found.dtype, found.ranks) == (3, "F16", frozenset({3}))
    assert found.layers == ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj")


@pytest.mark.parametrize("rename", [dict, kohya, older], ids=["diffusers", "kohya", "older diffusers"])
def test_an_image_adapter_fits_in_each_form(image: Base, rename: Any) -> None:
    found = judge(rename(image_lora(5)), image, Kind.IMAGE)
    assert (found.rank, found.dtype) == (5, "F16")


@pytest.mark.parametrize(
    ("kind", "alias", "adapter"),
    [
        ("image", "sketch", "night/pytorch_lora_weights"),
        ("image", "sketch", "gold/pytorch_lora_weights"),
        ("text", "chat", "pirate/adapter_model"),
        ("text", "chat", "haiku/adapter_model"),
    ],
)
def test_the_demo_models_adapters_fit_their_own_model_and_no_other(kind: str, alias: str, adapter: str) -> None:
    bases = {one: read_base(of, f"{ROOT}/models/{one}/weights") for one, of in (("sketch", "image"), ("chat", "text"))}
    content = (ROOT / f"models/{alias}/adapters/{adapter}.safetensors").read_bytes()
    reader = HeaderReader()
    reader.feed(content)
    header = reader.finish(len(content))
    assert fit(header, bases[alias], Kind(kind), alias).rank == 8
    other, of = ("chat", Kind.TEXT) if alias == "sketch" else ("sketch", Kind.IMAGE)
    with pytest.raises(InvalidError, match=r"tensors fit no layer of"):
        fit(header, bases[other], of, other)


def test_what_would_be_left_out_is_named(image: Base) -> None:
    more = {f"unet.mid_block.{number}.lora_A.weight": (4, 4) for number in range(5)}
    message = refusal({**image_lora(), **more}, image, Kind.IMAGE)
    assert "5 of its 11 tensors fit no layer of 'm', so it would be loaded in part; the first: " in message
    assert "'unet.mid_block.0.lora_A.weight', 'unet.mid_block.1.lora_A.weight'" in message
    assert "unet.mid_block.3" not in message


TEXT_BAD: dict[str, tuple[Shapes, str]] = {
    "a layer that is not there": (text_lora(layer="model.layers.9.self_attn.q_proj"), "2 of its 2 tensors fit no"),
    "without PEFT's beginning": ({"model.layers.0.self_attn.q_proj.lora_A.weight": (4, 8)}, "fit no layer"),
    "the embeddings": (text_lora(layer="model.embed_tokens"), "fit no layer"),
    "the head": (text_lora(layer="lm_head"), "fit no layer"),
    "a norm": (text_lora(layer="model.layers.0.input_layernorm"), "fit no layer"),
    "a whole weight": ({**text_lora(), "base_model.model.lm_head.weight": (32, 8)}, "1 of its 3 tensors"),
    "a path": ({**text_lora(), "../../../etc/passwd": (1,)}, "'../../../etc/passwd'"),
    "a line break": ({**text_lora(), "a\nb\x1b[31m": (1,)}, r"'a\nb\x1b[31m'"),
    "only one matrix": (dict(list(text_lora().items())[:1]), "has only one of its two matrices"),
    "DoRA": ({**text_lora(), "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector": (8,)}, "1 of"),
}


@pytest.mark.parametrize("name", TEXT_BAD)
def test_a_text_adapter_that_would_be_loaded_in_part_is_refused(text: Base, name: str) -> None:
    shapes, said = TEXT_BAD[name]
    assert said in refusal(shapes, text, Kind.TEXT)


def changed(name: str, shape: tuple[int, ...]) -> Shapes:
    return {**image_lora(), name: shape}


IMAGE_BAD: dict[str, tuple[Shapes, str]] = {
    "another width": (changed("unet.conv_in.lora_A.weight", (4, 9, 3, 3)), "has 4x9x3x3 and 16x4x1x1, and 'm' has 1"),
    "a product for a convolution": (changed("unet.conv_in.lora_A.weight", (4, 36)), "made for another model"),
    "two ranks in a layer": (changed("unet.conv_in.lora_B.weight", (16, 5, 1, 1)), "made for another model"),
    "no rank": (changed("unet.conv_in.lora_A.weight", (0, 4, 3, 3)), "made for another model"),
    "one number": (changed("unet.conv_in.lora_A.weight", ()), "has one number and"),
    "a mixture of forms": (
        {**older(image_lora()), "unet.conv_in.lora_A.weight": (4, 4, 3, 3)},
        "1 of its 5 tensors fit no layer",
    ),
    "two forms of one layer": ({**image_lora(), **older(image_lora())}, "4 of its 10 tensors"),
    "PEFT's own names": (
        {f"base_model.model.{name.removeprefix('unet.')}": shape for name, shape in image_lora().items()},
        "save it as diffusers or PEFT do",
    ),
    "an alpha of two": (
        {**kohya(image_lora()), "lora_unet_conv_in.alpha": (2,)},
        "is not one number",
    ),
}


@pytest.mark.parametrize("name", IMAGE_BAD)
def test_an_image_adapter_that_would_be_loaded_in_part_is_refused(image: Base, name: str) -> None:
    shapes, said = IMAGE_BAD[name]
    assert said in refusal(shapes, image, Kind.IMAGE)


def test_a_models_layers_come_from_a_bucket_too(tmp_path: Path) -> None:
    bucket = MemoryObjectStore()
    folder = Path(image_base(tmp_path))
    for path in folder.rglob("*.safetensors"):
        bucket.put(f"models/m/{path.relative_to(folder)}", path.read_bytes(), "application/octet-stream")
    bucket.put("models/m/vae/model.safetensors", b"broken", "application/octet-stream")
    bases = Bases(Weights(lambda _: bucket, tmp_path))
    assert bases.read(model("image", "s3://weights/models/m")) == read_base("image", str(folder))


@pytest.mark.parametrize("content", [None, b"", b"{}", b"12345678{}"])
def test_a_model_whose_weights_cannot_be_read_is_the_operators_business(tmp_path: Path, content: bytes | None) -> None:
    source = tmp_path / "m"
    if content is not None:
        source.mkdir()
        (source / "model.safetensors").write_bytes(content)
    with pytest.raises(UnavailableError, match="The weights of 'm' cannot be read at this moment"):
        read_base("text", str(source))
