"""The painting port: what an image engine asks of whatever draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from schemas.base import JsonObject
from tasks.adapters import AdapterFile
from workers.engines.image_batching import Canvas, Group
from workers.engines.pictures import Pixels

Look = Callable[[int], Pixels]
"""Returns what a row of the batch looks like after this step."""
Watch = Callable[[int, Look], Sequence[int]]
"""Sees the step that was made; returns the rows that are still wanted, or raises when none is."""


class MemoryShortError(Exception):
    """There is too little memory for this batch."""


class AbandonedError(Exception):
    """Nobody wants any image of this batch any more."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What came of a batch."""

    pictures: dict[int, Pixels]
    """By row; who was left out has none."""
    bytes_each: float | None
    """What an image took at most, where that can be told."""


class Painter(Protocol):
    """What draws. Made and used in one thread, except that adapters are read in another."""

    @property
    def schedulers(self) -> Sequence[str]:
        """The names of the schedulers that fit."""

    def read_adapter(self, file: AdapterFile) -> Any:
        """Return an adapter's weights, or refuse it."""

    def draw(self, group: Group, canvases: Sequence[Canvas], watch: Watch) -> Drawn:
        """Draw a batch."""

    def free_bytes(self) -> int | None:
        """Return how much memory a batch may take, where that can be told."""

    def give_back(self) -> None:
        """Give memory that is not in use back to the device."""

    def describe(self) -> JsonObject:
        """Say where and how."""
