"""What Sketch learns to draw: one figure in the middle of a sheet of paper, as distances to its outline."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

SIDE = 64
COLOURS = {
    "red": (222, 48, 44),
    "orange": (244, 136, 30),
    "yellow": (246, 206, 40),
    "green": (48, 164, 76),
    "blue": (44, 96, 222),
    "purple": (136, 66, 190),
    "pink": (244, 130, 180),
    "brown": (134, 82, 46),
    "black": (38, 38, 44),
}
SMALL, LARGE = 21.0, 26.0
"""Radii in pixels: every figure is at least half as wide as the sheet."""

Distances = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Figures:
    """Many figures at once: what each is, and its distances to the outline (below zero inside)."""

    shapes: torch.Tensor
    colours: torch.Tensor
    paints: torch.Tensor
    distances: torch.Tensor
    across: torch.Tensor
    """How far along the diagonal of its figure each pixel lies."""


def _circle(x: torch.Tensor, y: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    return torch.hypot(x, y) - r


def _square(x: torch.Tensor, y: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.86 * r


def _triangle(x: torch.Tensor, y: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    side = (1.7 * x.abs() - 0.98 * (y + 0.92 * r)) / math.hypot(1.7, 0.98)
    return torch.maximum(side, y - 0.78 * r)


def _star(x: torch.Tensor, y: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """Fold the ten half points of the star onto one, whose edge is a straight line."""
    far, turn, point = torch.hypot(x, y), 2 * math.pi / 5, 1.12 * r
    angle = (torch.remainder(torch.atan2(x, -y) + turn / 2, turn) - turn / 2).abs()
    inner_x, inner_y = 0.48 * math.cos(turn / 2), 0.48 * math.sin(turn / 2)
    edge_x, edge_y = inner_x - 1, inner_y
    off = (far * torch.cos(angle) - point) * edge_y - far * torch.sin(angle) * edge_x
    return off / math.hypot(edge_x, edge_y)


def _heart(x: torch.Tensor, y: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """Two round lobes above a square that stands on its corner, in units where that corner is at the origin."""
    unit = 1.72 * r
    x, y = x.abs() / unit, 0.55 - y / unit
    lobe = torch.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    along = 0.5 * (x + y).clamp(min=0)
    below = torch.minimum(torch.hypot(x, y - 1), torch.hypot(x - along, y - along)) * torch.sign(x - y)
    return unit * torch.where(x + y > 1, lobe, below)


def _diamond(x: torch.Tensor, y: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    return (x.abs() / 0.76 + y.abs() - 1.12 * r) / math.hypot(1 / 0.76, 1)


def _ring(x: torch.Tensor, y: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    return (torch.hypot(x, y) - 0.77 * r).abs() - 0.25 * r


def _cross(x: torch.Tensor, y: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    x, y = x.abs(), y.abs()
    return torch.minimum(torch.maximum(x - r, y - 0.36 * r), torch.maximum(y - r, x - 0.36 * r))


SHAPES: dict[str, Distances] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "diamond": _diamond,
    "ring": _ring,
    "cross": _cross,
}


def invent(count: int) -> Figures:
    """Make up figures: any shape in any colour, a little off the middle, a little turned, no two of one tint."""
    shapes, colours = torch.randint(len(SHAPES), (count,)), torch.randint(len(COLOURS), (count,))
    radius = torch.empty(count, 1, 1).uniform_(SMALL, LARGE)
    x, y = _places(torch.empty(2, count, 1, 1).uniform_(-2, 2), torch.empty(count, 1, 1).uniform_(-0.09, 0.09))
    distances = torch.empty(count, 1, SIDE, SIDE)
    for number, shape in enumerate(SHAPES.values()):
        ours = shapes == number
        distances[ours, 0] = shape(x[ours], y[ours], radius[ours])
    paints = torch.tensor(list(COLOURS.values()))[colours] / 255
    paints = (paints + torch.empty(count, 3).uniform_(-0.03, 0.03)).clamp(0, 1)[:, :, None, None]
    return Figures(shapes, colours, paints, distances, ((x + y) / radius)[:, None])


def _places(off: torch.Tensor, angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where each pixel lies as its figure sees it: from its own middle, and turned with it."""
    steps = torch.arange(SIDE) + 0.5 - SIDE / 2
    x, y = steps[None, None, :] - off[0], steps[None, :, None] - off[1]
    return x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
