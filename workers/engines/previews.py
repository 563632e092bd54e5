"""Latents as small pictures: the linear map that comes closest to the pipeline's own decoder, found when it is loaded.

Families have such maps in common, but nobody writes them into the files; a picture of plain colours, encoded and
decoded, tells them for any.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from workers.engines.pictures import Pixels

PATCHES = 8
"""So many patches of colour, each way, in the picture that is read."""
PATCH_LATENTS = 4
"""How many latents each is wide: decoders blur what is smaller."""
PICTURE_AXES = 3
WIDEST = 1.5
"""No picture's latents deviate much more than this."""


class Previewer:
    """Turns a pipeline's latents into pictures, roughly."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._map = _find_map(pipeline)

    def picture(self, latents: torch.Tensor, width: int, height: int) -> Pixels:
        """Return a picture of one image's latents, as far as they have become."""
        if latents.ndim < PICTURE_AXES:  # packed: patches in a row
            latents = self._pipeline._unpack_latents(  # noqa: SLF001 - there is no public way
                latents[None], height, width, self._pipeline.vae_scale_factor
            )[0]
        latents = latents.float()
        calm = latents / (latents.std() / WIDEST).clamp(min=1)  # noise may be large before it is a picture
        colours = torch.einsum("chw,cr->hwr", torch.cat([calm, torch.ones_like(calm[:1])]), self._map)
        pixels: Pixels = (colours.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        return pixels


@torch.inference_mode()
def _find_map(pipeline: Any) -> torch.Tensor:
    """Return for each channel, and for none, how red, green and blue it is."""
    vae = pipeline.vae
    side = PATCHES * pipeline.vae_scale_factor * PATCH_LATENTS
    colours = torch.rand(1, 3, PATCHES, PATCHES, generator=torch.Generator().manual_seed(0))
    picture = functional.interpolate(colours, size=(side, side), mode="nearest") * 2 - 1
    with _precise(vae):
        encoded = vae.encode(picture.to(pipeline._execution_device, vae.dtype))  # noqa: SLF001 - vae.device is none when it is offloaded
        raw = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        decoded = vae.decode(raw).sample.float().clamp(-1, 1) / 2 + 0.5  # encoders and decoders are no exact opposites
    latents = ((raw - (getattr(vae.config, "shift_factor", None) or 0.0)) * vae.config.scaling_factor).float()
    wanted = functional.interpolate(decoded, size=latents.shape[-2:], mode="area")[0].flatten(1).T
    known = torch.cat([latents[0].flatten(1), torch.ones_like(latents[0, :1]).flatten(1)]).T
    solution = torch.linalg.lstsq(known.cpu(), wanted.cpu()).solution
    found: torch.Tensor = solution.to(latents.device)
    return found


@contextmanager
def _precise(vae: Any) -> Iterator[None]:
    """Compute as pipelines do with autoencoders that overflow in half precision."""
    dtype, is_short = vae.dtype, vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
    if is_short:
        vae.to(dtype=torch.float32)
    try:
        yield
    finally:
        if is_short:
            vae.to(dtype=dtype)
