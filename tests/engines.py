"""Engines for tests: an encoder that needs no torch, and how a run is listened to."""

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np

from schemas.base import JsonObject
from schemas.catalog import Model
from schemas.errors import AdapterGoneError
from schemas.events import EngineEvent, Finished
from tasks.adapters import AdapterFile
from tasks.engine import Engine, EngineRequest
from workers.engines.embedding import EmbeddingEngine, Vectors

LIMIT = 50
POISON = ord("☠")
NAUGHT = ord("∅")


class ToyEncoder:
    """A token per character; a vector that only equal tokens share. What it is told to do it does."""

    limit = LIMIT
    dimensions = 8
    step_tokens = 4096

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        """The texts of each step."""
        self.may_go = threading.Event()
        self.may_go.set()
        self.is_computing = False
        self.failure: Exception | None = None
        """What every step raises."""
        self.seconds = 0.0

    def read(self, text: str, *, cut: bool = False) -> list[int]:
        """One token for each character, which must be one that can be written down."""
        text.encode()
        return [ord(character) for character in text[: self.limit if cut else None]]

    def encode(self, batch: Sequence[Sequence[int]]) -> Vectors:
        """Fail for ☠, give no number for ∅."""
        self.is_computing = True
        self.may_go.wait()
        self.is_computing = False
        time.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        if any(POISON in tokens for tokens in batch):
            raise RuntimeError("there is a ☠ in the batch")
        self.batches.append(["".join(map(chr, tokens)) for tokens in batch])
        return np.stack([self._vector(tokens) for tokens in batch])

    def describe(self) -> JsonObject:
        """Say where it is."""
        return {"device": "toy"}

    def _vector(self, tokens: Sequence[int]) -> Vectors:
        if NAUGHT in tokens:
            return np.full(self.dimensions, np.nan, dtype=np.float32)
        noise = hashlib.shake_128(str(tokens).encode()).digest(self.dimensions)
        return np.frombuffer(noise, dtype=np.uint8).astype(np.float32) - 127.5


def model(engine: str, kind: str = "embedding", **fields: Any) -> Model:
    """A line of a catalog."""
    common = {"alias": "m", "kind": kind, "engine": engine, "source": "builtin", "devices": ["cpu0"]}
    return Model.model_validate({**common, "max_in_flight": 4, **fields})


def toy_engine(encoder: ToyEncoder, slots: int = 4, **options: Any) -> EmbeddingEngine:
    """An embedding engine on a toy; make it in the loop that will use it."""
    return EmbeddingEngine(model("embedding", max_in_flight=slots, options=options), lambda _: encoder)


class ToyLibrary:
    """An AdapterSource: files that lie somewhere."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths

    async def fetch(self, adapter_id: str) -> AdapterFile:
        """Return what is there."""
        if adapter_id not in self._paths:
            raise AdapterGoneError
        sha256 = f"{adapter_id} of {id(self)}"
        return AdapterFile(adapter_id, adapter_id, sha256, self._paths[adapter_id], 8, is_catalog=False)

    def release(self, file: AdapterFile) -> None:
        """Nothing is kept."""


async def listen(
    engine: Engine, given: JsonObject, job_id: str = "job_1", kind: str = "embedding"
) -> list[EngineEvent]:
    """Run a request to its end; everything that the engine said."""
    async with aclosing(engine.run(EngineRequest(job_id, 1, kind, given))) as events:
        return [event async for event in events]


async def ask(engine: Engine, given: JsonObject, job_id: str = "job_1", kind: str = "embedding") -> Finished:
    """Run a request to its end; its answer."""
    finished = (await listen(engine, given, job_id, kind))[-1]
    assert isinstance(finished, Finished)
    return finished
