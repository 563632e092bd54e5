"""How figures are painted: plainly on paper, or as one of the adapters has it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from models.sketch.figures import Figures

Look = Callable[[Figures], torch.Tensor]


def _colour(red: int, green: int, blue: int) -> torch.Tensor:
    return torch.tensor([red, green, blue])[None, :, None, None] / 255


PAPER = _colour(244, 239, 228)
NIGHT = _colour(14, 17, 44)
CREAM = _colour(255, 250, 240)
DARK_GOLD, GOLD, BRIGHT_GOLD = _colour(138, 88, 12), _colour(222, 168, 38), _colour(255, 240, 164)


def plain(figures: Figures) -> torch.Tensor:
    """Fill the figure with its colour. Pixels are between 0 and 1."""
    return _fill(figures, PAPER, figures.paints)


def night(figures: Figures) -> torch.Tensor:
    """Let the figure glow in the dark."""
    light = 0.25 + 0.75 * figures.paints
    glow = 0.75 * torch.exp(-figures.distances.clamp(min=0) / 6)
    lamp = light + 0.45 * (1 - light) * torch.exp(figures.distances.clamp(max=0) / 5)
    return _fill(figures, NIGHT + glow * (light - NIGHT), lamp)


def stripes(figures: Figures) -> torch.Tensor:
    """Fill the figure with slanted stripes, dark and light, and leave its rim as it is."""
    band = (0.5 + 4 * torch.sin(figures.across * 2 * math.pi)).clamp(0, 1)
    rim = (figures.distances + 2.5).clamp(0, 1)
    light = 0.25 * figures.paints + 0.75 * CREAM
    return _fill(figures, PAPER, light + torch.maximum(band, rim) * (figures.paints - light))


def gold(figures: Figures) -> torch.Tensor:
    """Cast the figure in gold, whatever its colour was: a gleam runs across it, and its rim is dark."""
    gleam = torch.exp(-((figures.across + 0.55) ** 2) / 0.1)
    shade = (figures.across.clamp(0, 2) / 2).clamp(0, 1)
    metal = GOLD + gleam * (BRIGHT_GOLD - GOLD) + 0.75 * shade * (DARK_GOLD - GOLD)
    rim = torch.exp(figures.distances.clamp(max=0) / 1.5)
    return _fill(figures, PAPER, metal + 0.8 * rim * (DARK_GOLD - metal))


ADAPTERS: dict[str, Look] = {"night": night, "stripes": stripes, "gold": gold}


def _fill(figures: Figures, around: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Paint inside and outside; the outline's own pixels get some of both."""
    cover = (0.5 - figures.distances).clamp(0, 1)
    return cover * inside + (1 - cover) * around
