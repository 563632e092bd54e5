"""The adapters that the catalog lists for a model, and no others: what an engine has without a library."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

from schemas.catalog import Model
from schemas.errors import AdapterGoneError, StartError
from tasks.adapters import AdapterFile

RANK_UNKNOWN = 0


class CatalogAdapters:
    """An AdapterSource whose files stay where they are."""

    def __init__(self, model: Model, locate: Callable[[str], str]) -> None:
        self._adapters = model.adapters
        self._locate = locate
        self._files: dict[str, AdapterFile] = {}

    async def fetch(self, adapter_id: str) -> AdapterFile:
        """Return an adapter by its name in the catalog."""
        if adapter_id not in self._adapters:
            raise AdapterGoneError
        if adapter_id not in self._files:
            self._files[adapter_id] = await asyncio.to_thread(self._find, adapter_id)
        return self._files[adapter_id]

    def release(self, file: AdapterFile) -> None:
        """Nothing is fetched, so nothing is given up."""

    def _find(self, name: str) -> AdapterFile:
        folder = Path(self._locate(self._adapters[name].source))
        path = next(iter(sorted(folder.glob("*.safetensors"))), None)
        if path is None:
            raise StartError(f"The adapter '{name}' has no .safetensors file in {folder}; correct its 'source'.")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return AdapterFile(name, name, sha256, path, RANK_UNKNOWN, is_catalog=True)
