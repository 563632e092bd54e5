"""The adapters that the catalog lists for a model, and no others: what an engine has without a library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from schemas.catalog import Model
from schemas.errors import AdapterGoneError, InvalidError, StartError
from tasks.adapters import AdapterFile
from tasks.loras.catalogs import find_adapter


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
        try:
            found = find_adapter(self._adapters[name], self._locate)
        except InvalidError as error:
            raise StartError(f"The catalog's adapter '{name}' cannot be used: {error.message}") from error
        return AdapterFile(name, name, found.sha256, found.path, found.rank, is_catalog=True)
