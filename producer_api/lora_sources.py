"""Adapters that do not come in a form: fetched from an address or a bucket, or put into the store by their callers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from producer_api.limits import lora_limit
from producer_api.lora_documents import LoraFields, LoraImport, LoraUploadRequest
from producer_api.lora_writer import CONTENT_TYPE
from producer_api.loras import Loras, unknown
from producer_api.services import Services
from schemas.base import JsonObject
from schemas.errors import ConflictError, FaultError, InvalidError, NotFoundError, UrlRefusedError
from schemas.ids import new_id
from schemas.jobs import Kind
from storage import adapters
from storage.adapters import EVERYBODY, AdapterRow, NewAdapter
from storage.callers import KeyRow
from storage.objects.port import ObjectStore, Reader, awaited_key
from tasks.addresses import Rules
from tasks.egress import Egress, UnreachableError
from tasks.views import moment
from tasks.weights import BUCKET

PIECE_BYTES = 256 * 2**10


class LoraSources:
    """The other ways in. They end in the same judgement."""

    def __init__(self, services: Services, loras: Loras) -> None:
        self._services = services
        self._loras = loras
        self._egress: Egress | None = None
        settings = services.settings
        # Not those of webhooks: where these may go to our own machine, an import still may not.
        self._rules = Rules.read(
            settings.lora_egress_allow, settings.lora_egress_ports, https_only=True, said_in="STOKER_LORA_EGRESS"
        )
        self._buckets = tuple(settings.lora_buckets.replace(",", " ").split())

    async def fetch(self, wanted: LoraImport, key: KeyRow) -> tuple[AdapterRow, bool]:
        """Fetch an adapter; what cannot be had is the caller's to know."""
        await self._loras.check(wanted, key)
        try:
            async with aclosing(self._pieces(wanted.url)) as pieces:
                return await self._loras.take(pieces, wanted, new_id("lora"), key, wanted.sha256)
        except UnreachableError as error:
            raise InvalidError(f"The adapter could not be fetched. {error}", param="url") from None
        except UrlRefusedError as error:
            error.param = "url"
            raise

    async def aclose(self) -> None:
        """Close the connections to where adapters came from."""
        if self._egress is not None:
            await self._egress.aclose()

    async def _pieces(self, url: str) -> AsyncGenerator[bytes, None]:
        if url.startswith(BUCKET):
            async with aclosing(self._read(*self._open_bucket(url))) as pieces:
                async for piece in pieces:
                    yield piece
            return
        if not url.startswith("https://"):
            raise UrlRefusedError("An adapter is fetched from an https:// address, or from a bucket that is listed.")
        if self._egress is None:
            self._egress = Egress(self._rules, ca_file=self._services.task_settings.egress_ca_file)
        async with aclosing(self._egress.stream(url, seconds=self._services.settings.upload_seconds)) as pieces:
            async for piece in pieces:
                yield piece

    def _open_bucket(self, url: str) -> tuple[ObjectStore, str]:
        if not any(url.startswith(f"{one.rstrip('/')}/") for one in self._buckets):
            known = ", ".join(self._buckets) or "none"
            raise UrlRefusedError(f"Adapters are imported from these buckets only: {known}. The operator lists them.")
        name, _, object_key = url.removeprefix(BUCKET).partition("/")
        return self._services.weights.open_bucket(name), object_key

    async def _read(self, store: ObjectStore, object_key: str) -> AsyncGenerator[bytes, None]:
        try:
            reader: Reader = await self._loras.run(store.open_read, object_key)
        except (NotFoundError, ValueError):
            raise UnreachableError("There is no object of that name.") from None
        try:
            while piece := await self._loras.run(reader.read, PIECE_BYTES):
                yield piece
        finally:
            reader.close()

    async def begin(self, wanted: LoraUploadRequest, key: KeyRow, base: str) -> JsonObject:
        """Write a row that awaits its bytes; return the address to which they go."""
        model, limit = await self._loras.check(wanted, key), lora_limit(self._services.settings)
        if wanted.bytes > limit.bytes:
            raise limit.error("The file")
        if model.kind is Kind.TEXT and wanted.alpha is None:
            raise InvalidError("Send the 'lora_alpha' of the adapter's adapter_config.json as 'alpha'.", param="alpha")
        new = NewAdapter(
            id=new_id("lora"),
            caller_id=self._loras.owner(wanted, key),
            name=wanted.name,
            model=model.alias,
            kind=model.kind.value,
            sha256=wanted.sha256,
            bytes=wanted.bytes,
            config=str(wanted.alpha) if wanted.alpha is not None else None,
        )
        row = await self._services.database.atransact(lambda connection: adapters.await_bytes(connection, new))
        seconds = self._services.task_settings.presign_seconds
        url = self._services.objects.presign_put(
            awaited_key(row.id), content_length=row.bytes, content_type=CONTENT_TYPE, expires_seconds=seconds
        )
        return {
            "id": row.id,
            "object": "lora.upload",
            "method": "PUT",
            "url": url,
            "headers": {"Content-Type": CONTENT_TYPE, "Content-Length": str(row.bytes)},
            "expires_at": moment(row.created_at + seconds),
            "complete_url": f"{base}/v1/loras/uploads/{row.id}/complete",
        }

    async def complete(self, adapter_id: str, key: KeyRow) -> tuple[AdapterRow, bool]:
        """Judge what was put, and copy it to where nobody can put anything any more."""
        owners = (key.caller_id, EVERYBODY)
        row = await self._services.database.aread(lambda c: adapters.find_awaited(c, adapter_id, owners))
        if row is None:
            return await self._completed(adapter_id, key), False
        size = await self._loras.run(self._services.objects.head, awaited_key(row.id))
        if size is None:
            raise ConflictError("There are no bytes yet: PUT them to the upload's 'url' first, then complete it.")
        wanted = LoraFields(
            model=row.model,
            name=row.name,
            alpha=float(row.config) if row.config else None,
            shared=row.caller_id == EVERYBODY,
        )
        async with aclosing(self._read(self._services.objects, awaited_key(row.id))) as pieces:
            made = await self._loras.take(pieces, wanted, row.id, key, row.sha256)
        with suppress(FaultError):  # the sweep finds what is left
            await self._loras.run(self._services.objects.delete, [awaited_key(row.id)])
        return made

    async def _completed(self, adapter_id: str, key: KeyRow) -> AdapterRow:
        """Return what was completed before: whoever lost that answer asks again."""
        row = await self._services.database.aread(lambda c: adapters.find_visible(c, adapter_id, key.caller_id))
        if row is None:
            raise unknown(adapter_id)
        return row
