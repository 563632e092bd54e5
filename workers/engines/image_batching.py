"""What an image engine draws next: images that agree share a batch, groups take turns, and no turn is long."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Any, Generic, TypeVar

CAUTION = 0.9
"""The share of the free memory that a batch is made for."""
ATTENTION = 2
"""The power of the pixels that time may grow with; a larger size's first batch tells how much it is."""


@dataclass(frozen=True, slots=True)
class Group:
    """What the images of a batch have in common; adapters and prompts may differ."""

    width: int
    height: int
    steps: int
    guidance: float
    scheduler: str | None
    has_negative: bool
    """Some models read an empty negative prompt and none at all differently."""

    @property
    def pixels(self) -> int:
        """Return how large one image is."""
        return self.width * self.height


@dataclass(eq=False, slots=True)
class Canvas:
    """One image that is to be drawn."""

    job: Any
    """Whoever is told of it."""
    index: int
    seed: int
    prompt: str
    negative_prompt: str
    adapters: list[tuple[Any, float]]
    """What changes it, and how much; nothing that changes nothing."""
    is_wanted: bool = True
    step: int = 0
    shortages: int = 0
    """How often memory did not suffice for it alone."""


One = TypeVar("One", bound=Canvas)


class Turns(Generic[One]):
    """The images that wait: those of a group in the order of their arrival, and one group's batch after another's."""

    def __init__(self) -> None:
        self._groups: dict[Group, deque[One]] = {}  # ordered by whose turn it is

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def add(self, group: Group, canvases: Iterable[One]) -> None:
        """Queue images behind those of their group."""
        self._groups.setdefault(group, deque()).extend(canvases)

    def put_back(self, group: Group, canvases: Iterable[One]) -> None:
        """Queue images, which had their turn and came to nothing, before all others."""
        waiting = self._groups.pop(group, deque())
        self._groups = {group: deque([*canvases, *waiting]), **self._groups}

    def drop(self, job: object) -> None:
        """Forget a job's images."""
        for group, waiting in list(self._groups.items()):
            kept = deque(one for one in waiting if one.job is not job)
            if kept:
                self._groups[group] = kept
            else:
                del self._groups[group]

    def next_batch(self, limit: Callable[[Group], int]) -> tuple[Group, list[One]] | None:
        """Take the next batch; what is left of its group waits until all others had their turn."""
        if not self._groups:
            return None
        group, waiting = next(iter(self._groups.items()))
        batch = list(islice(waiting, limit(group)))
        del self._groups[group]
        if len(waiting) > len(batch):
            self._groups[group] = deque(islice(waiting, len(batch), None))
        return group, batch


class BatchSizes:
    """How many images are drawn at once: never more than was asked for, than fit, or than are drawn in a while."""

    def __init__(self, most: int, most_seconds: float = inf) -> None:
        self._most = most
        self._most_seconds = most_seconds
        self._bytes_each: dict[int, float] = {}  # by pixels, as are the others
        self._step_seconds: dict[int, float] = {}  # of one image, at the best that was seen
        self._fitting: dict[int, int] = {}  # what is known since memory ran out

    def learn(self, pixels: int, bytes_each: float) -> None:
        """Note what one image of a batch took."""
        self._bytes_each[pixels] = max(bytes_each, self._bytes_each.get(pixels, 0))

    def time(self, group: Group, images: int, seconds: float) -> None:
        """Note how long a batch took. Slower ones were disturbed, or too small to be at their best."""
        each = seconds / (images * group.steps)
        self._step_seconds[group.pixels] = min(each, self._step_seconds.get(group.pixels, each))

    def halve(self, pixels: int, tried: int) -> None:
        """Note that so many did not fit."""
        self._fitting[pixels] = max(1, min(tried, self._fit(pixels, None)) // 2)

    def limit(self, group: Group, free_bytes: int | None) -> int:
        """Return how many images of a group are tried at once; None where free memory cannot be told."""
        limit = self._fit(group.pixels, free_bytes)
        if each := _guess(self._step_seconds, group.pixels, growth=ATTENTION) * group.steps:
            limit = int(min(limit, self._most_seconds / each))
        return max(1, limit)

    def _fit(self, pixels: int, free_bytes: int | None) -> int:
        limit = min([self._most, *(fits for size, fits in self._fitting.items() if size <= pixels)])
        each = _guess(self._bytes_each, pixels)
        if free_bytes is not None and each:
            limit = min(limit, int(CAUTION * free_bytes / each))
        return max(1, limit)


def _guess(known: Mapping[int, float], pixels: int, growth: int = 1) -> float:
    """Return what an image takes: measured, or as much as the size most alike, grown for a larger one."""
    if not known:
        return 0
    alike = min(known, key=lambda size: abs(size - pixels))
    return known[alike] * (pixels / alike) ** (growth if pixels > alike else 1)
