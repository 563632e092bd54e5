"""Latents as small pictures: the linear map that comes closest to the pipeline's own decoder, found when it is loaded.

Families have such maps in common, but nobody writes them into the files; a picture of plain colours that the encoder
reads tells them for any.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from workers.engines.pictures import Pixels

PATCHES = 8
"""So many patches of colour, each way, in the picture that is read."""
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
    side = PATCHES * pipeline.vae_scale_factor * 2
    colours = torch.rand(1, 3, PATCHES, PATCHES, generator=torch.Generator().manual_seed(0))
    picture = functional.interpolate(colours, size=(side, side), mode="nearest")
    encoded = vae.encode((picture * 2 - 1).to(vae.device, vae.dtype))
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    latents = ((latents - shift) * vae.config.scaling_factor).float()
    wanted = functional.interpolate(picture, size=latents.shape[-2:], mode="area")[0].flatten(1).T
    known = torch.cat([latents[0].flatten(1), torch.ones_like(latents[0, :1]).flatten(1)]).T
    solution = torch.linalg.lstsq(known.cpu(), wanted).solution
    found: torch.Tensor = solution.to(vae.device)
    return found
