"""Adapters: how they come in, who may see them, where they are in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import Request

from producer_api.authentication import Scope
from producer_api.limits import lora_form_limit, lora_limit
from producer_api.lora_documents import LoraFields, LoraForm, LoraQuery, lora_view
from producer_api.lora_writer import LoraWriter
from producer_api.services import Services
from producer_api.uploads import Uploads
from schemas.base import JsonObject
from schemas.catalog import Adapter, Model
from schemas.errors import (
    ConflictError,
    FaultError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    StokerError,
    TooManyError,
)
from schemas.ids import new_id
from schemas.jobs import Kind
from storage import adapters
from storage.adapters import EVERYBODY, AdapterFilter, AdapterRow, NewAdapter
from storage.callers import KeyRow
from storage.objects.port import adapter_key
from storage.objects.writer import Written
from tasks.dispatch import Dispatcher, QueueLoad, resident_on
from tasks.logs import get_logger
from tasks.loras.bases import Bases
from tasks.loras.catalogs import Found, find_adapter
from tasks.loras.configs import text_config
from tasks.loras.matching import fit
from tasks.loras.metadata import check_metadata
from tasks.routing import find_model

THREADS = 4
CATALOGS = ":"
"""In cursors that mean an adapter of the catalog."""

Listed = tuple[Model, str, Adapter]
"""An adapter of the catalog."""
Result = TypeVar("Result")
log = get_logger(__name__)


class Loras:
    """What routes about adapters share."""

    def __init__(self, services: Services, dispatcher: Dispatcher) -> None:
        self._services = services
        self._dispatcher = dispatcher
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="loras")
        self._uploads = Uploads(services, self.run)
        self._bases = Bases(services.weights)
        self._found: dict[tuple[str, str], Found | None] = {}

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run something that blocks, in a thread of our own."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def receive(self, request: Request, key: KeyRow) -> tuple[AdapterRow, bool]:
        """Store an uploaded adapter: its bytes first, then its row. Return it, and whether it is new."""
        writer = LoraWriter(self._services.objects, new_id("lora"))
        limit = lora_form_limit(self._services.settings)
        _, wanted, written = await self._uploads.store(request, key.caller_id, writer, LoraForm, limit)
        return await self.keep(wanted, writer, written, key, wanted.sha256)

    async def take(
        self, pieces: AsyncIterator[bytes], wanted: LoraFields, adapter_id: str, key: KeyRow, sha256: str
    ) -> tuple[AdapterRow, bool]:
        """Store an adapter that comes from elsewhere, piece by piece."""
        writer = LoraWriter(self._services.objects, adapter_id)
        limit = lora_limit(self._services.settings)
        async with self._uploads.turn(key.caller_id, writer):
            async for piece in pieces:
                await self._uploads.write(writer, piece, limit)
            written = await self.run(writer.finish)
        return await self.keep(wanted, writer, written, key, sha256)

    async def keep(
        self, wanted: LoraFields, writer: LoraWriter, written: Written, key: KeyRow, sha256: str | None
    ) -> tuple[AdapterRow, bool]:
        """Judge what was stored and write its row; what is refused leaves nothing behind."""
        try:
            if sha256 not in (None, written.sha256):
                raise InvalidError(
                    f"The file's SHA-256 is {written.sha256}, and {sha256} was expected; it was changed on its way, "
                    "or another file was meant.",
                    param="sha256",
                )
            new = await self._judge(wanted, writer, written, key)
            # A write that fails leaves the object: it may have been committed all the same, else the sweep finds it.
            row = await self._services.database.atransact(lambda connection: adapters.add(connection, new))
        except StokerError as error:
            if not isinstance(error, FaultError):
                await self._forget(writer.adapter_id)
            raise
        if row.object != writer.adapter_id:
            await self._forget(writer.adapter_id)  # the same bytes are there already
        log.info("An adapter was added.", adapter_id=row.id, model=row.model, rank=row.rank, bytes=row.bytes)
        return row, row.id == new.id

    async def check(self, wanted: LoraFields, key: KeyRow, adapter_id: str = "") -> Model:
        """Refuse what can be refused before there are any bytes; return the model."""
        model = find_model(self._services.catalog, wanted.model)
        if not model.uploaded_rank:
            raise InvalidError(
                f"'{model.alias}' takes no adapters of callers; the operator allows them with 'max_adapter_rank' in "
                f"[models.{model.alias}].",
                param="model",
            )
        if wanted.alpha is not None and model.kind is not Kind.TEXT:
            raise InvalidError("The file of an image adapter says its own alpha; leave 'alpha' out.", param="alpha")
        if wanted.name in model.adapters:
            raise ConflictError(
                f"The catalog has an adapter '{wanted.name}' for '{model.alias}'; choose another name."
            )
        limit, owner = self._services.settings.max_loras_per_caller, self.owner(wanted, key)
        awaited_seconds = self._services.task_settings.presign_seconds
        count = await self._services.database.aread(
            lambda connection: adapters.count(connection, owner, awaited_seconds, adapter_id)
        )
        if count >= limit:
            raise TooManyError(
                f"You have {count} adapters, with uploads that were begun, and may have no more than {limit}; delete "
                f"some first. An upload that is not completed counts for {awaited_seconds / 60:g} minutes."
            )
        return model

    @staticmethod
    def owner(wanted: LoraFields, key: KeyRow) -> str:
        """Return who will own an adapter; only admins give things to everybody."""
        if wanted.shared and Scope.ADMIN not in key.scopes:
            raise ForbiddenError("Only a key with the scope 'admin' may share an adapter; leave 'shared' out.")
        return EVERYBODY if wanted.shared else key.caller_id

    async def _judge(self, wanted: LoraFields, writer: LoraWriter, written: Written, key: KeyRow) -> NewAdapter:
        model, header = await self.check(wanted, key, writer.adapter_id), writer.header()
        base = await self.run(self._bases.read, model)
        fitted = await self.run(fit, header, base, model.kind, model.alias)
        if fitted.rank > model.uploaded_rank:
            raise InvalidError(
                f"Its rank is {fitted.rank}, and '{model.alias}' takes adapters up to rank {model.uploaded_rank}.",
                param="file",
            )
        config = None
        if model.kind is Kind.TEXT:
            config = text_config(fitted, wanted.alpha, header.metadata)
        else:
            check_metadata(header.metadata)
        return NewAdapter(
            writer.adapter_id,
            self.owner(wanted, key),
            wanted.name,
            model.alias,
            model.kind.value,
            written.sha256,
            written.bytes,
            fitted.rank,
            fitted.dtype,
            config,
        )

    async def _forget(self, adapter_id: str) -> None:
        with suppress(FaultError):  # the sweep finds what is left
            await self.run(self._services.objects.delete, [adapter_key(adapter_id)])

    async def find(self, adapter_id: str, caller_id: str) -> JsonObject:
        """Return an adapter that a caller may use; another's is not found."""
        row = await self._services.database.aread(lambda c: adapters.find_visible(c, adapter_id, caller_id))
        loads = await self._dispatcher.loads()
        found = row or next((one for one in self._listed() if one[1] == adapter_id), None)
        if found is None:
            raise unknown(adapter_id)
        return await self._view(found, loads)

    async def delete(self, adapter_id: str, key: KeyRow, owner: str) -> None:
        """Delete an adapter, or an upload that was begun: jobs that were submitted with it still run."""
        owners = [owner, EVERYBODY] if Scope.ADMIN in key.scopes else [owner]
        if any(name == adapter_id for _, name, _ in self._listed()):
            raise ConflictError(f"'{adapter_id}' is in the catalog; the operator can take it out there.")
        if not await self._services.database.atransact(lambda c: adapters.delete(c, adapter_id, owners)):
            raise unknown(adapter_id)

    async def page(self, wanted: LoraQuery, caller_id: str) -> JsonObject:
        """Return a list's page: first what the catalog has, then what was uploaded, newest first."""
        loads = await self._dispatcher.loads()
        listed = [one for one in self._listed() if _is_wanted(one[0], wanted)]
        after = wanted.after
        if after is not None:
            ends = [_cursor(one) for one in listed]
            listed = listed[ends.index(after) + 1 :] if after in ends else []
            after = None if CATALOGS in after else after  # and what the catalog no longer has was the last of it
        rows = await self._services.database.aread(lambda c: adapters.page(c, wanted.as_filter(caller_id, after)))
        found: list[AdapterRow | Listed] = [*listed, *rows]
        data = [await self._view(one, loads) for one in found[: wanted.limit]]
        has_more = len(found) > wanted.limit
        return {
            "object": "list",
            "data": data,
            "has_more": has_more,
            "next_cursor": _cursor(found[wanted.limit - 1]) if has_more else None,
        }

    async def _view(self, one: AdapterRow | Listed, loads: Mapping[str, QueueLoad]) -> JsonObject:
        if isinstance(one, AdapterRow):
            return lora_view(one, self._resident_on(one.model, one.id, loads))
        return await self._catalog_view(*one, loads)

    def _listed(self) -> list[Listed]:
        models = self._services.catalog.models.values()
        return [(model, name, one) for model in models for name, one in model.adapters.items()]

    def _resident_on(self, alias: str, adapter_id: str, loads: Mapping[str, QueueLoad]) -> list[str]:
        model = self._services.catalog.models.get(alias)
        return resident_on(model, adapter_id, loads) if model else []

    async def uploaded(self, caller_id: str) -> list[AdapterRow]:
        """Return the newest of those that a caller may use."""
        wanted = AdapterFilter(caller_id, self._services.settings.max_loras_per_caller)
        return await self._services.database.aread(lambda c: adapters.page(c, wanted))

    async def _catalog_view(
        self, model: Model, name: str, adapter: Adapter, loads: Mapping[str, QueueLoad]
    ) -> JsonObject:
        found = await self._look_at(model, name, adapter)
        return {
            "id": name,
            "object": "lora",
            "name": name,
            "base_model": model.alias,
            "kind": model.kind.value,
            "rank": found.rank if found else None,
            "dtype": found.dtype if found else None,
            "bytes": found.bytes if found else None,
            "sha256": found.sha256 if found else None,
            "shared": True,
            "source": "catalog",
            "description": adapter.description,
            "resident_on": self._resident_on(model.alias, name, loads),
            "created_at": None,
        }

    async def _look_at(self, model: Model, name: str, adapter: Adapter) -> Found | None:
        """Return what lies on this machine's disk; what would have to be fetched is the workers' business."""
        where = model.alias, name
        if where not in self._found:
            try:
                self._found[where] = await self.run(find_adapter, adapter, self._services.weights.locate_here)
            except (StokerError, OSError):
                self._found[where] = None
        return self._found[where]


def _cursor(one: AdapterRow | Listed) -> str:
    return one.id if isinstance(one, AdapterRow) else f"{one[0].alias}{CATALOGS}{one[1]}"


def _is_wanted(model: Model, wanted: LoraQuery) -> bool:
    return wanted.model in (None, model.alias) and wanted.kind in (None, model.kind)


def unknown(adapter_id: str) -> NotFoundError:
    """Return the error that another caller's adapter gives, too."""
    return NotFoundError(f"There is no adapter '{adapter_id[:100]}' of yours; GET /v1/loras lists those there are.")
