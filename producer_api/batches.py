"""Batches as callers touch them: made of an uploaded file or of inputs that come along, found, steered."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import suppress
from typing import Any

from pydantic_core import to_json

from producer_api.batch_wishes import BatchWanted, PlainBatchWanted
from producer_api.services import Services
from schemas.batches import BatchStatus, Endpoint, window_seconds
from schemas.errors import ConflictError, FaultError, IdempotencyMismatchError, InvalidError, NotFoundError
from schemas.files import JSON_LINES, Purpose
from schemas.ids import new_id
from storage import batches, files, idempotency, rows
from storage.batches import BatchFilter, BatchRow, NewBatch
from storage.files import NewFile
from storage.hints import AsyncHints
from storage.idempotency import Wish
from storage.objects.port import file_key
from storage.objects.writer import ObjectWriter
from tasks.addresses import read_rules
from tasks.dispatch import Origin
from tasks.orders import stop_batch_order
from tasks.routing import BATCH_TASK, BATCH_WIDTH, MAINTENANCE
from tasks.webhooks.intake import row_of_webhook

PLAIN_NAME = "inputs.jsonl"
MAY_PAUSE = (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS)


class Batches:
    """What routes about batches share."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._database = services.database
        self._rules = read_rules(services.task_settings)
        self._hints = AsyncHints(services.redis, BATCH_TASK)

    async def create(self, wanted: BatchWanted, origin: Origin) -> tuple[BatchRow, bool]:
        """Make a batch of an uploaded file, or find the one that the idempotency key made before."""
        new = self._lay_out(wanted, wanted.endpoint, wanted.input_file_id, origin)
        return await self._write(new, None, origin, wanted.model_dump_json(exclude_defaults=True))

    async def create_plain(self, wanted: PlainBatchWanted, origin: Origin) -> tuple[BatchRow, bool]:
        """Make a batch of inputs: they become a file, and take the same road."""
        limit = self._services.task_settings.max_batch_lines
        if len(wanted.inputs) > limit:
            raise InvalidError(
                f"A batch has {limit:,} lines at most, and this one {len(wanted.inputs):,}; make several.",
                param="inputs",
            )
        file_id = new_id("file")
        new = self._lay_out(wanted, Endpoint.JOBS, file_id, origin)
        file = await asyncio.to_thread(self._store, wanted, file_id, origin.caller_id)
        said = await asyncio.to_thread(wanted.model_dump_json, exclude_defaults=True)
        try:
            # A write that fails leaves the object: it may have been committed all the same, else the sweep finds it.
            row, is_new = await self._write(new, file, origin, said)
        except IdempotencyMismatchError:
            await self._forget(file_id)
            raise
        if not is_new:
            await self._forget(file_id)
        return row, is_new

    async def find(self, batch_id: str, caller_id: str) -> BatchRow:
        """Return a caller's batch; another's is not found."""
        row = await self._database.aread(lambda connection: batches.find(connection, batch_id, caller_id))
        if row is None:
            raise _unknown(batch_id)
        return row

    async def page(self, wanted: BatchFilter) -> list[BatchRow]:
        """Return a list's page, and one batch more when there are more."""
        return await self._database.aread(lambda connection: batches.page(connection, wanted))

    async def cancel(self, batch_id: str, caller_id: str) -> BatchRow:
        """Let no more of its lines run; what has ended stays as it is."""
        stopped = await self._database.atransact(lambda c: batches.request_cancel(c, batch_id, caller_id))
        if stopped is None:
            raise _unknown(batch_id)
        self._announce()
        with suppress(FaultError):  # the workers' beats bring the same news
            for owner in stopped.owners:
                await self._services.control.send(owner, stop_batch_order(stopped.row.number))
        return stopped.row

    async def pause(self, batch_id: str, caller_id: str, *, paused: bool) -> BatchRow:
        """Let no more of its lines begin, or let them again."""
        row = await self._database.atransact(lambda c: batches.set_paused(c, batch_id, caller_id, paused=paused))
        if row is None:
            raise _unknown(batch_id)
        if row.status not in MAY_PAUSE:
            wish = "paused" if paused else "resumed"
            raise ConflictError(f"The batch is {row.status}, so nothing of it is left that could be {wish}.")
        return row

    def _lay_out(
        self, wanted: BatchWanted | PlainBatchWanted, endpoint: Endpoint, file_id: str, origin: Origin
    ) -> NewBatch:
        kept = wanted.output_expires_after
        return NewBatch(
            id=new_id("batch"),
            caller_id=origin.caller_id,
            endpoint=endpoint.value,
            input_file_id=file_id,
            completion_window=wanted.completion_window,
            window_seconds=window_seconds(wanted.completion_window),
            output_kept_seconds=kept.seconds if kept else self._services.settings.file_kept_seconds,
            metadata=rows.to_json(wanted.metadata) if wanted.metadata else None,
            webhook=row_of_webhook(wanted.webhook, self._rules, origin.base) if wanted.webhook else None,
            request_id=origin.request_id,
        )

    async def _write(self, new: NewBatch, file: NewFile | None, origin: Origin, said: str) -> tuple[BatchRow, bool]:
        fingerprint = hashlib.sha256(f"batch {said}".encode()).hexdigest()

        def write(connection: Any) -> tuple[BatchRow, bool]:
            if origin.idempotency_key is not None:
                wish = Wish(new.caller_id, origin.idempotency_key, fingerprint, new.id, time.time())
                made_id = idempotency.made_before(connection, wish)
                known = batches.find(connection, made_id, new.caller_id) if made_id else None
                if known is not None:
                    return known, False
            if file is not None:
                files.add(connection, file)
            else:
                _hold_input(connection, new)
            return batches.add(connection, new), True

        made = await self._database.atransact(write)
        self._announce()
        return made

    def _announce(self) -> None:
        """Have somebody work on batches now instead of within a second."""
        self._hints.send(MAINTENANCE, width=BATCH_WIDTH)

    async def _forget(self, file_id: str) -> None:
        with suppress(FaultError):  # the sweep finds what is left
            await asyncio.to_thread(self._services.objects.delete, [file_key(file_id)])

    def _store(self, wanted: PlainBatchWanted, file_id: str, caller_id: str) -> NewFile:
        writer = ObjectWriter(self._services.objects, file_key(file_id), JSON_LINES)
        try:
            for custom_id, line in zip(wanted.custom_ids(), wanted.inputs, strict=True):
                body = {"kind": line.kind, "model": line.model, "input": line.input}
                asked = {"custom_id": custom_id, "method": "POST", "url": Endpoint.JOBS, "body": body}
                if writer.add(to_json(asked) + b"\n"):
                    writer.flush()
            written = writer.finish()
        except BaseException:
            writer.abort()
            raise
        kept = self._services.settings.file_kept_seconds
        return NewFile(file_id, caller_id, Purpose.BATCH, PLAIN_NAME, written.bytes, written.sha256, kept)


def _hold_input(connection: Any, new: NewBatch) -> None:
    file = files.hold(connection, new.input_file_id, new.caller_id)
    if file is None:
        raise NotFoundError(
            f"There is no file '{new.input_file_id}' of yours; upload it first, or look for it with GET /v1/files.",
            param="input_file_id",
        )
    if file.purpose != Purpose.BATCH:
        raise InvalidError(
            f"'{file.id}' is a file of the purpose '{file.purpose}'; upload one with the purpose 'batch'.",
            param="input_file_id",
        )


def _unknown(batch_id: str) -> NotFoundError:
    return NotFoundError(f"There is no batch '{batch_id[:100]}' of yours; GET /v1/batches lists those there are.")
