"""The adapters that an engine keeps in memory: the catalog's for good, of all others those that were used last."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from tasks.adapters import AdapterFile, AdapterSource
from tasks.patience import insist

Weights = TypeVar("Weights")


@dataclass(slots=True)
class Resident(Generic[Weights]):
    """An adapter in memory; several ids may name the same weights."""

    loading: asyncio.Task[Weights]
    is_catalog: bool
    ids: set[str] = field(default_factory=set)

    @property
    def is_loaded(self) -> bool:
        """Say whether it is in memory by now."""
        return self.loading.done() and not _failed(self.loading)


class Residents(Generic[Weights]):
    """Fetches, loads and forgets adapters; whatever a running job holds stays. It lives in the engine's loop."""

    def __init__(
        self,
        source: AdapterSource,
        load: Callable[[AdapterFile], Coroutine[Any, Any, Weights]],
        most: int,
        on_forgotten: Callable[[Weights], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._load = load
        self._most = most
        self._on_forgotten = on_forgotten
        self._residents: dict[str, Resident[Weights]] = {}  # by sha256, those used last at the end
        self._held: Counter[str] = Counter()
        self.ids: frozenset[str] = frozenset()
        """Of what is in memory; made anew whenever that changes, so that any thread may look."""

    async def preload(self, adapter_ids: Iterable[str]) -> None:
        """Bring adapters into memory before anybody asks for them."""
        for adapter_id in adapter_ids:
            async with self.hold([adapter_id]):
                pass

    @asynccontextmanager
    async def hold(self, adapter_ids: Iterable[str]) -> AsyncIterator[list[tuple[AdapterFile, Weights]]]:
        """Have adapters in memory, in this order, for as long as the context lasts."""
        held: list[str] = []
        try:
            found = []
            for adapter_id in adapter_ids:
                file = await insist(partial(self._source.fetch, adapter_id))
                try:
                    self._held[file.sha256] += 1
                    held.append(file.sha256)
                    found.append((file, await self._get(file)))
                finally:
                    self._source.release(file)  # it is in memory, or will never be
            yield found
        finally:
            self._held -= Counter(held)
            self.tidy()

    def tidy(self, most: int | None = None) -> None:
        """Forget those that nobody has used for longest, until there are only so many beside the catalog's."""
        loose = [
            sha256
            for sha256, one in self._residents.items()
            if one.is_loaded and not (one.is_catalog or self._held[sha256])
        ]
        others = sum(not one.is_catalog for one in self._residents.values())
        surplus = others - (self._most if most is None else most)
        for sha256 in loose[: max(0, surplus)]:
            self._on_forgotten(self._residents.pop(sha256).loading.result())
            self._list()

    async def _get(self, file: AdapterFile) -> Weights:
        """Return weights that are here, or load them; whoever wants the same meanwhile waits for the same load."""
        resident = self._residents.pop(file.sha256, None)
        if resident is None:
            if not file.is_catalog:
                self.tidy(self._most - 1)
            resident = Resident(asyncio.create_task(self._load(file)), file.is_catalog)
            resident.loading.add_done_callback(partial(self._see_loaded, file.sha256))
        self._residents[file.sha256] = resident
        resident.is_catalog |= file.is_catalog
        if file.id not in resident.ids:
            resident.ids.add(file.id)
            self._list()
        return await asyncio.shield(resident.loading)

    def _see_loaded(self, sha256: str, loading: asyncio.Task[Weights]) -> None:
        if _failed(loading):
            self._residents.pop(sha256, None)
        self._list()
        self.tidy()  # whoever wanted it may have left meanwhile

    def _list(self) -> None:
        self.ids = frozenset(name for one in self._residents.values() if one.is_loaded for name in one.ids)


def _failed(loading: asyncio.Task[Any]) -> bool:
    return loading.cancelled() or loading.exception() is not None
