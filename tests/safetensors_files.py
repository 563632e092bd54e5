"""Safetensors files made by hand, right and wrong, without any library that could refuse to make them."""

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8}
Shapes = Mapping[str, tuple[int, ...]]


def lines(shapes: Shapes, dtype: str = "F16") -> dict[str, Any]:
    """The lines of a head, in order."""
    said: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        end = at + prod(shape) * BYTES[dtype]
        said[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    return said


def file_of(head: Any, data: bytes = b"") -> bytes:
    """A file with this head."""
    raw = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def weights_file(
    shapes: Shapes, dtype: str = "F16", fill: int = 0, metadata: Mapping[str, str] | None = None
) -> bytes:
    """A whole file with these tensors."""
    said = lines(shapes, dtype)
    size = max((line["data_offsets"][1] for line in said.values()), default=0)
    head = {"__metadata__": dict(metadata), **said} if metadata else said
    return file_of(head, bytes([fill]) * size)


NORM = "model.layers.0.input_layernorm"
TEXT_BASE: Shapes = {
    "model.embed_tokens.weight": (32, 8),
    "model.layers.0.self_attn.q_proj.weight": (8, 8),
    "model.layers.0.mlp.up_proj.weight": (16, 8),
    "model.layers.0.input_layernorm.weight": (8,),
    "lm_head.weight": (32, 8),
}
UNET: Shapes = {
    "conv_in.weight": (16, 4, 3, 3),
    "conv_in.bias": (16,),
    "down_blocks.0.attentions.0.proj_in.weight": (16, 16, 1, 1),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight": (16, 16),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.weight": (16, 16),
}
ENCODER: Shapes = {"encoder.layers.0.self_attn.q_proj.weight": (8, 8)}


def text_base(folder: Path) -> str:
    """A folder with the weights of a tiny text model; where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(weights_file(TEXT_BASE))
    return str(folder)


def image_base(folder: Path) -> str:
    """A folder with the weights of a tiny pipeline; where it is."""
    for part, name, shapes in (("unet", "diffusion_pytorch_model", UNET), ("text_encoder", "model", ENCODER)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / f"{name}.safetensors").write_bytes(weights_file(shapes))
    return str(folder)


def text_lora(rank: int = 4, layer: str = "model.layers.0.self_attn.q_proj") -> dict[str, tuple[int, ...]]:
    """The tensors of a text adapter in PEFT's form."""
    out, into = {**TEXT_BASE, f"{NORM}.weight": (8, 8)}.get(f"{layer}.weight", (8, 8))
    begin = f"base_model.model.{layer}"
    return {f"{begin}.lora_A.weight": (rank, into), f"{begin}.lora_B.weight": (out, rank)}


def image_lora(rank: int = 4) -> dict[str, tuple[int, ...]]:
    """The tensors of an image adapter in diffusers' form: a convolution, a product, the text encoder."""
    attention = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    return {
        "unet.conv_in.lora_A.weight": (rank, 4, 3, 3),
        "unet.conv_in.lora_B.weight": (16, rank, 1, 1),
        f"{attention}.lora_A.weight": (rank, 16),
        f"{attention}.lora_B.weight": (16, rank),
        "text_encoder.encoder.layers.0.self_attn.q_proj.lora_A.weight": (rank, 8),
        "text_encoder.encoder.layers.0.self_attn.q_proj.lora_B.weight": (8, rank),
    }
