"""The adapter port: how an engine gets the small sets of weights that its jobs name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter on this machine's disk. Equal `sha256` means equal weights, whatever the ids."""

    id: str
    name: str
    sha256: str
    path: Path
    """A safetensors file; beside it lies an `adapter_config.json` when the model is a text model."""
    rank: int
    is_catalog: bool


class AdapterSource(Protocol):
    """Brings adapters to the disk. Both verbs are for the engine's loop."""

    async def fetch(self, adapter_id: str) -> AdapterFile:
        """Return an adapter whose bytes were checked; quick when it is here. It stays on the disk until released.

        Raises AdapterGoneError when there is none any more, and FaultError while it cannot be had.
        """
        ...

    def release(self, file: AdapterFile) -> None:
        """Let the disk have the room of a fetched adapter when it needs it; once for every fetch."""
        ...
