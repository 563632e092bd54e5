"""The step between pixels and latents: latents are small pictures, so a preview costs nothing, and edges come back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from diffusers import AutoencoderTiny
from torch.nn.functional import avg_pool2d, l1_loss, mse_loss

from models.sketch.figures import invent
from models.sketch.looks import ADAPTERS, plain

SCALE = 1.5
"""Brings latents to a deviation of about 1, as the noise has it."""
CELL = 4


def build_autoencoder() -> AutoencoderTiny:
    """Return an untrained autoencoder that makes a 64x64 picture of 16x16 latents."""
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(16, 16, 16),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        scaling_factor=SCALE,
    )


def latents_of(pixels: torch.Tensor) -> torch.Tensor:
    """Shrink pictures to a quarter of their side: red, green and blue from -1 to 1, and how much edge there is."""
    grey = pixels.mean(1, keepdim=True)
    down, right = grey.diff(dim=2, append=grey[:, :, -1:]), grey.diff(dim=3, append=grey[:, :, :, -1:])
    edges = 4 * (down.abs() + right.abs())
    return avg_pool2d(torch.cat([2 * pixels - 1, edges], 1), CELL)


def train_autoencoder(autoencoder: AutoencoderTiny, steps: int, rows: int = 12) -> Iterator[float]:
    """Teach both halves what latents are; yield the loss of each step."""
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=4e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    looks = (plain, plain, *ADAPTERS.values())
    for step in range(steps):
        figures = invent(rows)
        pixels = torch.lerp(plain(figures), looks[step % len(looks)](figures), torch.rand(rows, 1, 1, 1) ** 0.5)
        latents = latents_of(pixels)
        signal = pixels * 2 - 1
        drawn = autoencoder.decoder(latents + 0.04 * torch.randn_like(latents))
        loss = l1_loss(drawn, signal) + mse_loss(drawn, signal) + mse_loss(autoencoder.encoder(signal), latents)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        yield loss.item()
