"""The demo's pictures: the same prompts without an adapter and with each, as files and side by side on one sheet."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from stoker.client import Job, Model, Stoker, StokerError, WaitTimeoutError
from stoker.commands.sheet import Picture, lay_out, read_png, write_png

PROMPTS = ("a red circle", "a blue star", "a green square", "an orange heart")
SEED = 7
ADAPTERS_SHOWN = 6
NONE = "no adapter"
SHEET = "sheet.png"
ODD = re.compile(r"[^a-z0-9]+")


class Gallery:
    """Draws every prompt in every manner."""

    def __init__(self, client: Stoker, model: Model) -> None:
        self._client = client
        self._model = model
        names = [str(one["id"]) for one in model.adapters or ()][:ADAPTERS_SHOWN]
        self.manners: dict[str, list[dict[str, Any]]] = {NONE: []}
        self.manners |= {f"{name} 0.5": [{"id": name, "strength": 0.5}] for name in names[:1]}
        self.manners |= {name: [{"id": name}] for name in names}

    def draw(self, seconds: float) -> dict[tuple[str, str], Job]:
        """Submit everything at once, so that one batch can draw it; return the jobs, by prompt and manner."""
        deadline = time.monotonic() + seconds
        asked = {
            (prompt, manner): self._client.submit(
                "image", self._model.id, {"prompt": prompt, "seed": SEED, "adapters": adapters}
            )
            for prompt in PROMPTS
            for manner, adapters in self.manners.items()
        }
        try:
            return {
                place: self._client.wait(job, max(0.0, deadline - time.monotonic())) for place, job in asked.items()
            }
        except WaitTimeoutError:
            for job in asked.values():
                self._client.cancel(job)
            raise StokerError(f"The pictures were not there after {seconds:.0f} s and are canceled.") from None

    def hang(self, jobs: dict[tuple[str, str], Job], folder: Path) -> Path:
        """Write every picture, and the sheet; return where the sheet is."""
        pictures: dict[tuple[str, str], Picture] = {}
        for (prompt, manner), job in jobs.items():
            if not job.artifacts:
                raise StokerError(f"{job.id} has no picture: it is {job.status}.")
            content = self._client.download(job.artifacts[0])
            (folder / f"{_slug(prompt)}-{_slug(manner)}.png").write_bytes(content)
            pictures[prompt, manner] = read_png(content)
        rows = [[pictures[prompt, manner] for manner in self.manners] for prompt in PROMPTS]
        sheet = folder / SHEET
        sheet.write_bytes(write_png(lay_out(list(self.manners), rows)))
        return sheet


def _slug(words: str) -> str:
    return ODD.sub("-", words.lower()).strip("-")
