"""Files as callers see them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from producer_api.services import Services
from producer_api.uploads import Uploads
from schemas.base import JsonObject, Strict
from schemas.errors import ConflictError, FaultError, GoneError, IdempotencyMismatchError, NotFoundError
from schemas.files import Purpose
from storage import batches, files, idempotency
from storage.files import FileFilter, FileRow, NewFile
from storage.idempotency import Wish
from storage.objects.port import Reader, file_key
from tasks.dispatch import Origin

PIECE_BYTES = 256 * 2**10
LIST_LIMIT = 10_000
THREADS = 8
Result = TypeVar("Result")


class FileAnswer(Strict):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int = Field(description="Epoch seconds.")
    expires_at: int | None = Field(description="Epoch seconds; it is deleted then.")
    filename: str
    purpose: Purpose
    status: Literal["processed"]


class FileList(Strict):
    """Some files."""

    object: Literal["list"]
    data: list[FileAnswer]
    has_more: bool
    first_id: str | None
    last_id: str | None = Field(description="Send it as `after` to get the next page.")


class FileDeletion(Strict):
    """A file that is gone."""

    id: str
    object: Literal["file"]
    deleted: bool


class FileQuery(BaseModel):
    """What a list may be asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(LIST_LIMIT, ge=1, le=LIST_LIMIT, description="How many files at most.")
    after: str = Field("", pattern="^(file_[0-9a-z]{23})?$", description="The `last_id` of the page before.")
    order: Literal["asc", "desc"] = Field("desc", description="By age: `desc` begins with the newest.")
    purpose: str = Field("", max_length=100, description="Only files for this.")
    caller: str = Field("", max_length=200, description="Another caller's files; for admins.")

    def as_filter(self, caller_id: str) -> FileFilter:
        """Return what storage looks for."""
        return FileFilter(caller_id, self.limit, self.after or None, self.purpose or None, self.order == "desc")


class Files:
    """What routes about files share."""

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._objects = services.objects
        # Threads of their own: a store that answers slowly must not hold up those that everything else needs.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")
        self._uploads = Uploads(services, self.run)

    async def receive(self, request: Request, origin: Origin) -> tuple[FileRow, bool]:
        """Store an uploaded file: its bytes first, then its row. Return it, and whether it is new."""
        new = await self._uploads.receive(request, origin.caller_id)
        try:
            # A write that fails leaves the object: it may have been committed all the same, else the sweep finds it.
            row = await self._database.atransact(lambda connection: _add(connection, new, origin.idempotency_key))
        except (IdempotencyMismatchError, GoneError):
            await self._forget(new.id)
            raise
        if row.id != new.id:
            await self._forget(new.id)  # the same bytes are there already
        return row, row.id == new.id

    async def find(self, file_id: str, caller_id: str) -> FileRow:
        """Return a caller's file; another's is not found."""
        row = await self._database.aread(lambda connection: files.find(connection, file_id, caller_id))
        if row is None:
            raise _unknown(file_id)
        return row

    async def page(self, wanted: FileFilter) -> list[FileRow]:
        """Return a list's page, and one file more when there are more."""
        return await self._database.aread(lambda connection: files.page(connection, wanted))

    async def delete(self, file_id: str, caller_id: str) -> None:
        """Delete a file: first its row, then its bytes."""

        def write(connection: Any) -> bool:
            is_there = files.delete(connection, file_id, caller_id)
            batch_id = batches.unfinished_with(connection, file_id) if is_there else None
            if batch_id is not None:
                raise ConflictError(f"The batch '{batch_id}' still needs this file; cancel it or wait for its end.")
            return is_there

        if not await self._database.atransact(write):
            raise _unknown(file_id)
        await self._forget(file_id)

    async def open(self, file: FileRow) -> AsyncIterator[bytes]:
        """Begin to read a file's bytes."""
        return self._pieces(await self.run(self._objects.open_read, file_key(file.id)))

    async def _pieces(self, reader: Reader) -> AsyncIterator[bytes]:
        try:
            while piece := await self.run(reader.read, PIECE_BYTES):
                yield piece
        finally:
            reader.close()

    async def _forget(self, file_id: str) -> None:
        with suppress(FaultError):  # the sweep finds what is left
            await self.run(self._objects.delete, [file_key(file_id)])

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Do what blocks, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _add(connection: Any, new: NewFile, key: str | None) -> FileRow:
    """Write a file's row, or find what the same upload with this idempotency key made before."""
    made_id = None
    if key is not None:
        said = f"file {new.purpose} {new.filename} {new.sha256} {new.kept_seconds}"
        fingerprint = hashlib.sha256(said.encode()).hexdigest()
        made_id = idempotency.made_before(connection, Wish(new.caller_id, key, fingerprint, new.id, time.time()))
    if made_id is None:
        return files.add(connection, new)
    known = files.find(connection, made_id, new.caller_id)
    if known is None:
        raise GoneError("The file that this Idempotency-Key made is gone; send a new key to upload it again.")
    return known


def file_view(file: FileRow) -> JsonObject:
    """Return a file as OpenAI's clients know it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": None if file.expires_at is None else int(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }


def page_view(found: Sequence[FileRow], limit: int) -> JsonObject:
    """Return a list's page; the one row too many says that there are more."""
    data = [file_view(file) for file in found[:limit]]
    ends = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "has_more": len(found) > limit, "first_id": ends[0], "last_id": ends[1]}


def _unknown(file_id: str) -> NotFoundError:
    return NotFoundError(f"There is no file '{file_id[:100]}' of yours; GET /v1/files lists those there are.")
