"""Tiny pipelines of the large families, made of configurations and chance: they draw nothing that anybody knows."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from models.sketch.tokens import build_tokenizer

WORDS = ("a", "red", "blue", "circle", "square")
WIDTH = 32
RANK = 4


def build_sdxl(folder: Path) -> None:
    """Save a Stable Diffusion XL: two text encoders, and the size of the picture among what the UNet is told."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        transformer_layers_per_block=(1, 2),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,  # six numbers about sizes, and what the prompt says
        cross_attention_dim=2 * WIDTH,
        norm_num_groups=4,
    )
    StableDiffusionXLPipeline(
        vae=_autoencoder(),
        text_encoder=CLIPTextModel(_clip()),
        text_encoder_2=CLIPTextModelWithProjection(_clip()),
        tokenizer=build_tokenizer(),
        tokenizer_2=build_tokenizer(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    ).save_pretrained(folder)


def build_flux(folder: Path) -> None:
    """Save a Flux: a transformer over patches, CLIP and T5, and a flow instead of noise that is taken away."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((f"▁{word}", -1.0) for word in WORDS)]
    t5 = T5Config(vocab_size=len(pieces), d_model=WIDTH, d_kv=8, d_ff=2 * WIDTH, num_layers=1, num_heads=4)
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_autoencoder(shift_factor=0.1),
        text_encoder=CLIPTextModel(_clip()),
        tokenizer=build_tokenizer(),
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=77),
        transformer=transformer,
    ).save_pretrained(folder)


def save_adapter(pipeline: Any, path: Path, seed: int, *components: str) -> None:
    """Save an adapter for the layers that adapters usually change, under the names that diffusers writes."""
    chance = torch.Generator().manual_seed(seed)
    tensors = {}
    for component in components:
        for name, layer in getattr(pipeline, component).named_modules():
            if isinstance(layer, nn.Linear) and name.endswith(("to_q", "to_v", "to_out.0", "q_proj", "v_proj")):
                down = torch.randn(RANK, layer.in_features, generator=chance) / layer.in_features**0.5
                tensors[f"{component}.{name}.lora_A.weight"] = down
                tensors[f"{component}.{name}.lora_B.weight"] = torch.randn(layer.out_features, RANK, generator=chance)
    save_file(tensors, path)


def _clip() -> CLIPTextConfig:
    tokenizer = build_tokenizer()
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _autoencoder(**fields: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        **fields,
    )
