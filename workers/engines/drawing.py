"""One image request, from its input to its files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from schemas.base import JsonObject
from schemas.catalog import Model
from schemas.events import Finished, Produced, ProgressMade
from schemas.image import ImageInput, ImageMade
from tasks.adapters import AdapterFile
from tasks.safety import Guard
from workers.engines.image_batching import Canvas, Group
from workers.engines.pictures import Pixels, write_picture


@dataclass(frozen=True, slots=True)
class Painted:
    """One of a job's images, drawn."""

    index: int
    pixels: Pixels
    company: int
    """How many images were in its batch."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """One of a job's images as it is becoming."""

    pixels: Pixels


News = ProgressMade | Glimpse | Painted | Exception | None
"""What a request is told; None when it is aborted."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """One of a job's images that nobody will see."""

    why: str


class Drawing:
    """One request from its prompt to its pictures."""

    def __init__(self, given: ImageInput, guard: Guard) -> None:
        self.given = given
        self._guard = guard
        self.group = Group(
            given.width or 0,
            given.height or 0,
            given.steps or 0,
            given.guidance or 0.0,
            given.scheduler,
            bool(given.negative_prompt),
        )
        self.canvases: list[Canvas] = []
        self.is_aborted = False
        self.news: asyncio.Queue[News] = asyncio.Queue()
        self._recipe: JsonObject = {}
        self._made: dict[int, Produced | Blocked] = {}
        self._company = 0
        self._told = 0.0
        self._began_at = perf_counter()

    @property
    def missing(self) -> int:
        """Return how many images are not there yet."""
        return self.given.n - len(self._made)

    def prepare(self, model: Model, adapters: Sequence[tuple[AdapterFile, Any]]) -> list[Canvas]:
        """Return the images that are to be drawn, with weights in memory for the adapters that the input names."""
        given, uses = self.given, list(zip(self.given.adapters, adapters, strict=True))
        asked = {"prompt", "negative_prompt", "width", "height", "steps", "guidance", "scheduler"}
        self._recipe = {
            **given.model_dump(mode="json", include=asked),
            "adapters": [{"id": use.id, "strength": use.strength, "sha256": file.sha256} for use, (file, _) in uses],
            "model": model.alias,
            "revision": model.revision,
        }
        weights = [(weights, use.strength) for use, (_, weights) in uses if use.strength]
        self.canvases = [
            Canvas(self, index, (given.seed or 0) + index, given.prompt, given.negative_prompt, weights)
            for index in range(given.n)
        ]
        return self.canvases

    def tell_progress(self) -> None:
        """Say how far it is; a batch that is drawn again does not take that back."""
        if self.is_aborted:
            return
        fraction = sum(canvas.step for canvas in self.canvases) / (self.group.steps * len(self.canvases))
        if fraction > self._told:
            self._told = fraction
            self.news.put_nowait(ProgressMade(round(fraction, 4), "draw"))

    def stop(self, why: Exception | None) -> None:
        """End it: nobody wants its images any more."""
        self.is_aborted = True
        for canvas in self.canvases:
            canvas.is_wanted = False
        self.news.put_nowait(why)

    def let_go(self) -> None:
        """Forget its images: they know it, so together they would keep adapters until garbage is collected."""
        self.stop(None)
        self.canvases = []

    def judge(self, pixels: Pixels) -> str | None:
        """Return why nobody may see a picture, or a preview of it; nothing when they may."""
        height, width, _ = pixels.shape
        return self._guard.judge_picture(width, height, pixels.tobytes())

    def write(self, painted: Painted) -> None:
        """Make a file of an image, if it may be seen; it takes a while."""
        if why := self.judge(painted.pixels):
            self._made[painted.index] = Blocked(why)
        else:
            form, seed = self.given.format, (self.given.seed or 0) + painted.index
            content = write_picture(painted.pixels, form, {**self._recipe, "seed": seed})
            self._made[painted.index] = Produced(f"image-{painted.index}.{form.ending}", form.content_type, content)
        self._company = max(self._company, painted.company)

    def finish(self) -> list[Produced | Finished]:
        """Return the last events."""
        made = [self._made[canvas.index] for canvas in self.canvases]
        files = [one for one in made if isinstance(one, Produced)]
        images = [self._describe(one, canvas) for one, canvas in zip(made, self.canvases, strict=True)]
        output = {"images": images, "safety": self._guard.report(len(made) - len(files))}
        draw_ms = round((perf_counter() - self._began_at) * 1000, 1)
        metrics = {"draw_ms": draw_ms, "images_in_batch": self._company}
        return [*files, Finished(output, usage={"images": len(images)}, metrics=metrics)]

    def _describe(self, made: Produced | Blocked, canvas: Canvas) -> ImageMade:
        width, height = self.group.width, self.group.height
        if isinstance(made, Blocked):
            return {"name": None, "seed": canvas.seed, "width": width, "height": height, "blocked": made.why}
        return {"name": made.name, "seed": canvas.seed, "width": width, "height": height}
