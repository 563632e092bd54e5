"""A painter that needs no torch, and the demo pipeline's line of the catalog."""

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schemas.base import JsonObject
from schemas.catalog import Model
from schemas.errors import AdapterGoneError, EngineRefusedError
from tasks.adapters import AdapterFile
from tests.engines import model
from workers.engines.image import ImageEngine
from workers.engines.image_batching import Canvas, Group
from workers.engines.painting import Drawn, MemoryShortError, Watch
from workers.engines.pictures import Pixels

SKETCH = Path(__file__).parents[1] / "models" / "sketch"
ADAPTERS = ("night", "stripes", "gold")
POISON = "☠"


class ToyPainter:
    """Every prompt, seed and set of adapters has a colour of its own. What it is told to do it does."""

    schedulers = ("euler", "ddim")

    def __init__(self) -> None:
        self.batches: list[list[Canvas]] = []
        """Those that were begun."""
        self.groups: list[Group] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.steps_made = 0
        self.fitting: int | None = None
        """Larger batches run out of memory."""
        self.stops_at = 0
        """The number of the batch, counted from 1, that it stands still in."""
        self.gave_back = 0
        self.free: int | None = None

    def read_adapter(self, file: AdapterFile) -> str:
        """Its weights are its hash."""
        if file.name == "broken":
            raise EngineRefusedError("The adapter 'broken' does not fit this model.")
        return file.sha256

    def draw(self, group: Group, canvases: Sequence[Canvas], watch: Watch) -> Drawn:
        """Make steps, then pictures."""
        self.batches.append(list(canvases))
        self.groups.append(group)
        if self.fitting is not None and len(canvases) > self.fitting:
            raise MemoryShortError
        if len(self.batches) == self.stops_at:
            self.may_go.clear()
        wanted: Sequence[int] = range(len(canvases))
        for step in range(1, group.steps + 1):
            self.may_go.wait()
            self.steps_made += 1
            if any(POISON in canvas.prompt for canvas in canvases):
                raise RuntimeError("there is a ☠ in the batch")
            wanted = watch(step, lambda row: _picture(group, canvases[row]))
        return Drawn({row: _picture(group, canvases[row]) for row in wanted}, bytes_each=100.0)

    def free_bytes(self) -> int | None:
        """As told."""
        return self.free

    def give_back(self) -> None:
        """Count."""
        self.gave_back += 1

    def describe(self) -> JsonObject:
        """Say where it is."""
        return {"device": "toy"}


def _picture(group: Group, canvas: Canvas) -> Pixels:
    said = repr((canvas.prompt, canvas.seed, canvas.adapters)).encode()
    colour = np.frombuffer(hashlib.sha256(said).digest()[:3], dtype=np.uint8)
    return np.broadcast_to(colour, (group.height, group.width, 3)).copy()


class ToyLibrary:
    """An AdapterSource: any id that begins with `lora_` is there; its hash is what follows, up to a dot."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.held = 0
        self.listed: set[str] = set()
        """Which of them are the catalog's."""

    async def fetch(self, adapter_id: str) -> AdapterFile:
        """Return a file that is nowhere."""
        self.fetched.append(adapter_id)
        if not adapter_id.startswith("lora_"):
            raise AdapterGoneError
        self.held += 1
        name = adapter_id.removeprefix("lora_")
        return AdapterFile(
            adapter_id, name, name.partition(".")[0], Path(name), 8, is_catalog=adapter_id in self.listed
        )

    def release(self, file: AdapterFile) -> None:
        """Count."""
        assert file.id in self.fetched
        self.held -= 1


def toy_image_engine(
    painter: ToyPainter, slots: int = 4, library: ToyLibrary | None = None, **options: Any
) -> ImageEngine:
    """An image engine on a toy; make it in the loop that will use it."""
    image = {"width": 16, "height": 8, "steps": 4, "preview_every": 2}
    line = model("diffusers", "image", max_in_flight=slots, image=image, options=options)
    return ImageEngine(line, lambda _: painter, library or ToyLibrary())


def sketch(**fields: Any) -> Model:
    """The demo pipeline with its adapters."""
    adapters = {name: {"source": str(SKETCH / "adapters" / name)} for name in ADAPTERS}
    image = {"width": 64, "height": 64, "steps": 8, "guidance": 3.0, "preview_every": 2, "safety": "basic"}
    common = {"source": str(SKETCH / "weights"), "adapters": adapters, "image": image, "max_in_flight": 16}
    return model("diffusers", "image", **{**common, **fields})
