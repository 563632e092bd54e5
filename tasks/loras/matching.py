"""Whether an adapter fits its model: each of its tensors must belong to a layer that is there, or none is taken.

Libraries skip what they cannot place and say nothing that a caller would see; a LoRA that is loaded in part draws or
talks wrongly. So names are held to the forms that the engines are known to load whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from schemas.errors import InvalidError
from schemas.jobs import Kind
from tasks.loras.header import Header, Tensor, shown

Layers = Mapping[str, tuple[int, ...]]
"""The shapes of a part's weights, by the names of their layers."""
Base = Mapping[str, Layers]
"""A model's parts that adapters change: `unet`, `text_encoder`, …; a text model has one without a name."""

NAMED = 3
MATRIX, CONVOLUTION = 2, 4
WHOLE = ""
DOWN, UP, ALPHA = "down", "up", "alpha"
SIDES = {"A": DOWN, "B": UP, "down": DOWN, "up": UP, "lora_down": DOWN, "lora_up": UP, "alpha": ALPHA}
UPS = re.compile(r"\.lora_B\.|\.up\.weight$|lora_up\.")
"""Names of matrices whose second side is the rank."""
PEFT = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
FORMS = {
    "diffusers": re.compile(
        r"(?P<part>unet|transformer|text_encoder|text_encoder_2)\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight"
    ),
    "older diffusers": re.compile(r"(?P<part>unet|transformer)\.(?P<layer>.+)\.lora\.(?P<side>down|up)\.weight"),
    "kohya": re.compile(
        r"lora_(?P<part>unet|te|te1|te2)_(?P<layer>[^.]+)\.(?:(?P<side>lora_down|lora_up)\.weight|(?P<alpha>alpha))"
    ),
}
KOHYAS_PARTS = {"unet": "unet", "te": "text_encoder", "te1": "text_encoder", "te2": "text_encoder_2"}
NO_LAYERS = re.compile(r"(^|\.)(embed\w*|\w*embeddings?|lm_head|wte|wpe)$")
"""Weights of this form that are no layers with a product in them, or that the text engine does not adapt."""


@dataclass(slots=True)
class Pair:
    """What an adapter has for one layer."""

    shape: tuple[int, ...]
    sides: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fit:
    """An adapter that fits: what its row says, and which layers it changes."""

    rank: int
    dtype: str
    layers: tuple[str, ...]
    ranks: frozenset[int]


def fit(header: Header, base: Base, kind: Kind, model: str) -> Fit:
    """Return what an adapter is, or refuse it with a sentence that names what does not fit."""
    places = _places_of_text(header, base) if kind is Kind.TEXT else _places_of_image(header, base)
    pairs = _pairs(header, places, model)
    ranks = frozenset(_rank(layer, pair, model) for layer, pair in pairs.items())
    dtypes = [tensor.dtype for tensor in header.tensors.values()]
    return Fit(max(ranks), max(set(dtypes), key=dtypes.count), tuple(layer for _, layer in pairs), ranks)


Place = tuple[str, str, str, tuple[int, ...]]
"""Part, layer, side, and the shape of the layer's weight."""


def _pairs(header: Header, places: Mapping[str, Place], model: str) -> dict[tuple[str, str], Pair]:
    unused = [name for name in header.tensors if name not in places]
    if unused:
        raise _bad(
            f"{len(unused):,} of its {len(header.tensors):,} tensors fit no layer of '{model}', so it would be loaded "
            f"in part; the first: {', '.join(map(shown, unused[:NAMED]))}. Choose the model that it was made for, and "
            "save it as diffusers or PEFT do."
        )
    pairs: dict[tuple[str, str], Pair] = {}
    for name, (part, layer, side, shape) in places.items():
        sides = pairs.setdefault((part, layer), Pair(shape)).sides
        if side in sides:
            raise _bad(f"The layer {shown(layer)} has two tensors of one kind; the second is {shown(name)}.")
        sides[side] = header.tensors[name]
    return pairs


def _rank(layer: tuple[str, str], pair: Pair, model: str) -> int:
    """Return the rank at a layer; its two matrices must fit each other and the layer."""
    down, up, name = pair.sides.get(DOWN), pair.sides.get(UP), shown(".".join(filter(None, layer)))
    if down is None or up is None:
        raise _bad(f"The layer {name} has only one of its two matrices; save the LoRA anew, whole.")
    rank = down.shape[0] if down.shape else 0
    ones = (1,) * (len(pair.shape) - MATRIX)
    if rank < 1 or down.shape != (rank, *pair.shape[1:]) or up.shape != (pair.shape[0], rank, *ones):
        raise _bad(
            f"At the layer {name} it has {_by(down.shape)} and {_by(up.shape)}, and '{model}' has {_by(pair.shape)} "
            "there: it was made for another model."
        )
    if ALPHA in pair.sides and pair.sides[ALPHA].shape not in ((), (1,)):
        raise _bad(f"The 'alpha' of the layer {name} is not one number.")
    return rank


def _places_of_text(header: Header, base: Base) -> dict[str, Place]:
    places = {}
    for name in header.tensors:
        match = PEFT.fullmatch(name)
        shape = base[WHOLE].get(match["layer"]) if match else None
        if match and shape and len(shape) == MATRIX and not NO_LAYERS.search(match["layer"]):
            places[name] = (WHOLE, match["layer"], SIDES[match["side"]], shape)
    return places


def _places_of_image(header: Header, base: Base) -> dict[str, Place]:
    """Find places in the form that most names have: a mixture of forms is what libraries load in part."""
    found = {form: dict(_match(header, base, form)) for form in FORMS}
    return max(found.values(), key=len)


def _match(header: Header, base: Base, form: str) -> Iterator[tuple[str, Place]]:
    layers = _kohyas(base) if form == "kohya" else base
    for name in header.tensors:
        match = FORMS[form].fullmatch(name)
        if match is None:
            continue
        said = match.groupdict()
        part = KOHYAS_PARTS.get(said["part"], said["part"]) if form == "kohya" else said["part"]
        shape = layers.get(part, {}).get(said["layer"])
        if shape and len(shape) in (MATRIX, CONVOLUTION) and not NO_LAYERS.search(said["layer"]):
            yield name, (part, said["layer"], SIDES[said["side"] or ALPHA], shape)


def _kohyas(base: Base) -> Base:
    """Return a model's layers as kohya's scripts name them."""
    return {part: {layer.replace(".", "_"): shape for layer, shape in layers.items()} for part, layers in base.items()}


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _bad(sentence: str) -> InvalidError:
    return InvalidError(sentence, param="file")
