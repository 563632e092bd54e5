"""Figures beside what they must be, and what is read off a series of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

Line = tuple[str, float, str]
"""What it is, how much, and what it must be, where it must."""


def lay_out(lines: Iterable[Line]) -> str:
    """Return one below the other."""
    return "\n".join(f"{label:<48}{value:>10.2f}   {wanted}".rstrip() for label, value, wanted in lines)


def slope(values: Sequence[float]) -> float:
    """Return by how much the line through the values rises from one to the next."""
    return statistics.linear_regression(range(len(values)), values).slope


def at(values: Sequence[float], share: float) -> float:
    """Return a percentile."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
