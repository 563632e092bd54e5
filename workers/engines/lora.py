"""Adapters of image models: a file's many ways to say it become two small matrices for each layer that changes.

A file that says anything which would not arrive is refused as a whole: libraries that load what they understand and
leave out the rest give pictures that are subtly wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY as SETTINGS
from diffusers.utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft
from safetensors import safe_open
from safetensors.torch import load
from torch import nn

from schemas.base import JsonObject
from schemas.errors import EngineRefusedError
from tasks.adapters import AdapterFile
from workers.engines.weight_check import check_tensors

DOWN, UP, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
COMPONENTS = ("unet", "transformer", *TEXT_ENCODERS)
"""The parts of a pipeline that adapters may change."""
DORA = "it is a DoRA, which this engine does not know"


@dataclass(frozen=True, slots=True)
class Change:
    """What an adapter adds to a layer's output: up(down(input)), at strength 1."""

    down: torch.Tensor
    up: torch.Tensor


@dataclass(frozen=True, slots=True)
class Adapter:
    """All of an adapter's changes, by component and layer."""

    changes: Mapping[tuple[str, str], Change]


class Misfit(EngineRefusedError):  # noqa: N818 - raised here, told to callers as what it derives from
    """The adapter and the model do not fit."""


def read_adapter(pipeline: Any, file: AdapterFile) -> Adapter:
    """Return a file's changes where the pipeline's layers are, or refuse it with the first thing that does not fit."""
    try:
        tensors = load(file.path.read_bytes())  # safetensors leaks two numbers for each tensor that it reads by itself
        check_tensors(file, tensors.items())
        return Adapter(_read(pipeline, tensors, _settings(file.path)))
    except Misfit as error:
        raise EngineRefusedError(f"The adapter '{file.name}' does not fit this model: {error.message}.") from None
    except EngineRefusedError:
        raise
    except Exception as error:
        raise EngineRefusedError(
            f"The adapter '{file.name}' cannot be read as a LoRA for this model ({type(error).__name__}); check what "
            "it was trained for."
        ) from error


def _settings(path: Path) -> JsonObject:
    """Return what trainers write about all layers, by component."""
    with safe_open(path, "pt") as opened:
        said = (opened.metadata() or {}).get(SETTINGS)
    settings: JsonObject = json.loads(said) if said else {}
    return settings


def _read(pipeline: Any, given: dict[str, torch.Tensor], metadata: JsonObject) -> dict[tuple[str, str], Change]:
    if any("dora_scale" in name for name in given):
        raise Misfit(DORA)  # which the converter below would leave out
    extra = {"unet_config": pipeline.unet.config} if hasattr(pipeline, "unet") else {"return_alphas": True}
    tensors, alphas = pipeline.lora_state_dict(given, **extra)
    tensors = tensors | {key: torch.tensor(float(value)) for key, value in (alphas or {}).items()}
    changes: dict[tuple[str, str], Change] = {}
    for component in COMPONENTS:
        prefix = f"{component}."
        own = {key.removeprefix(prefix): tensors.pop(key) for key in list(tensors) if key.startswith(prefix)}
        if own:
            model = getattr(pipeline, component, None)
            if model is None:
                raise Misfit(f"it changes a {component}, which the model does not have")
            settings = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
            for layer, change in _pair(model, _rename(component, own), settings).items():
                changes[component, layer] = change
    if tensors:
        raise Misfit(f"nobody knows what '{next(iter(tensors))}' is for")
    if not changes:
        raise Misfit("it changes nothing")
    return changes


def _rename(component: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors under today's names."""
    if component not in TEXT_ENCODERS:
        return dict(convert_unet_state_dict_to_peft(tensors))
    if all(DOWN in key or UP in key or key.endswith(ALPHA) for key in tensors):
        return tensors
    return dict(convert_state_dict_to_peft(tensors))


def _pair(model: nn.Module, tensors: dict[str, torch.Tensor], settings: Mapping[str, Any]) -> dict[str, Change]:
    """Bring down, up and alpha of each layer together; nothing may be left over."""
    if settings.get("use_dora"):
        raise Misfit(DORA)
    alphas = {_layer_of(key): tensors.pop(key).item() for key in list(tensors) if key.endswith(ALPHA)}
    layers = dict(model.named_modules())
    changes = {}
    for name in sorted({_layer_of(key) for key in tensors}):
        down, up = tensors.pop(name + DOWN, None), tensors.pop(name + UP, None)
        if down is None or up is None:
            raise Misfit(f"what it has for '{name}' is not a pair of lora_A and lora_B")
        layer = layers.get(name)
        if not isinstance(layer, (nn.Linear, nn.Conv2d)) or (isinstance(layer, nn.Conv2d) and layer.groups != 1):
            raise Misfit(f"it changes '{name}', which the model does not have as a plain layer")
        rank = down.shape[0]
        alpha = alphas.pop(name, settings.get("alpha_pattern", {}).get(name, settings.get("lora_alpha", rank)))
        scale = alpha / (rank**0.5 if settings.get("use_rslora") else rank)
        changes[name] = _fit(name, layer, down, up * scale)
    if tensors or alphas:
        raise Misfit(f"nobody knows what '{next(iter([*tensors, *alphas]))}' is for")
    return changes


def _layer_of(key: str) -> str:
    return key.removesuffix(ALPHA).partition(".lora_")[0]


def _fit(name: str, layer: nn.Module, down: torch.Tensor, up: torch.Tensor) -> Change:
    """Return the pair in the layer's form, type and place."""
    rank, shape = down.shape[0], layer.weight.shape
    wanted = (rank, *shape[1:]), (shape[0], rank, *(1 for _ in shape[2:]))
    for tensor, shape in ((down, wanted[0]), (up, wanted[1])):
        if tensor.numel() != torch.Size(shape).numel() or tensor.shape[:2] != shape[:2]:
            raise Misfit(f"its '{name}' is {tuple(tensor.shape)} where the model needs {shape}")
    like = {"dtype": layer.weight.dtype, "device": layer.weight.device}
    return Change(down.reshape(wanted[0]).to(**like), up.reshape(wanted[1]).to(**like))
