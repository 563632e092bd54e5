"""Uploads: a form's file goes to the object store as it arrives, and a part of it at most is ever in memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Literal, TypeVar
from weakref import WeakValueDictionary

from starlette.requests import Request

from producer_api.forms import Field, FileStart, FormReader
from producer_api.limits import Limit, file_limit
from producer_api.services import Services
from schemas.base import JsonObject, Strict
from schemas.errors import FaultError, InvalidError, UnavailableError, UploadTimeoutError
from schemas.files import JSON_LINES, ExpiresAfter
from schemas.ids import new_id
from storage.files import NewFile
from storage.objects.port import file_key
from storage.objects.writer import ObjectWriter, Written

PLACES = 8
"""So many files, and as many adapters, are read at once: each may hold 5 MiB in memory. Others wait in sockets."""
PLACES_EACH = 4
"""So many of them one caller may hold: slow lines of his are not everybody's."""
PLACE_SECONDS = 30.0
SILENT_SECONDS = 30.0
FILENAME_CHARACTERS = 255
INNER = re.compile(r"(\w+)\[(\w+)\]")


Form = TypeVar("Form", bound=Strict)
Run = Callable[..., Awaitable[Any]]
"""Runs a function that blocks, in a thread."""


class UploadForm(Strict):
    """The fields that come with a file."""

    purpose: Literal["batch"]
    expires_after: ExpiresAfter | None = None


class Uploads:
    """The uploads that this process reads."""

    def __init__(self, services: Services, run: Run) -> None:
        self._run = run
        self._objects = services.objects
        self._settings = services.settings
        self._places = asyncio.Semaphore(PLACES)
        self._own = WeakValueDictionary[str, asyncio.Semaphore]()

    async def receive(self, request: Request, caller_id: str) -> NewFile:
        """Store the file of a form; return what its row will say."""
        file_id = new_id("file")
        writer = ObjectWriter(self._objects, file_key(file_id), JSON_LINES)
        limit = file_limit(self._settings)
        filename, wanted, written = await self.store(request, caller_id, writer, UploadForm, limit)
        kept = wanted.expires_after.seconds if wanted.expires_after else self._settings.file_kept_seconds
        return NewFile(file_id, caller_id, wanted.purpose, filename, written.bytes, written.sha256, kept)

    async def store(
        self, request: Request, caller_id: str, writer: ObjectWriter, fields: type[Form], limit: Limit
    ) -> tuple[str, Form, Written]:
        """Store the file of a form as it comes; return its name, the form's fields, and what was written."""
        form = FormReader(request.headers.get("content-type", ""))
        async with self.turn(caller_id, writer):
            filename, wanted = await self._read(request, form, writer, fields, limit)
            return filename, wanted, await self._run(writer.finish)

    @asynccontextmanager
    async def turn(self, caller_id: str, writer: ObjectWriter) -> AsyncIterator[None]:
        """Have a place and a time to write in; what goes wrong leaves nothing behind."""
        async with self._place(caller_id), self._in_time():
            try:
                yield
            except BaseException:
                with suppress(FaultError):  # the sweep finds what is left
                    await self._run(writer.abort)
                raise

    async def _read(
        self, request: Request, form: FormReader, writer: ObjectWriter, fields: type[Form], limit: Limit
    ) -> tuple[str, Form]:
        """Read a form to its end; the file's name and the fields."""
        said: JsonObject = {}
        filename: str | None = None
        async for chunk in _in_motion(request):
            for piece in form.feed(chunk):
                if isinstance(piece, bytes):
                    await self.write(writer, piece, limit)
                elif isinstance(piece, FileStart):
                    filename = _filename(piece, is_first=filename is None)
                else:
                    _set(said, piece)
        form.end()
        wanted = fields.model_validate(said)
        if not filename or not writer.bytes:
            raise InvalidError("The form has no file, or an empty one; send it as the field 'file'.", param="file")
        return filename, wanted

    async def write(self, writer: ObjectWriter, piece: bytes, limit: Limit) -> None:
        """Take the next bytes of a file, unless they are too many."""
        is_due = writer.add(piece)
        if writer.bytes > limit.bytes:
            raise limit.error("The file")
        if is_due:
            await self._run(writer.flush)

    @asynccontextmanager
    async def _place(self, caller_id: str) -> AsyncIterator[None]:
        own = self._own.setdefault(caller_id, asyncio.Semaphore(PLACES_EACH))
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(PLACE_SECONDS):
                    await held.enter_async_context(own)
                    await held.enter_async_context(self._places)
            except TimeoutError:
                raise UnavailableError(
                    "Too many files are being uploaded at once; try again in a few seconds."
                ) from None
            yield

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._settings.upload_seconds):
                yield
        except TimeoutError:
            raise UploadTimeoutError from None


async def _in_motion(request: Request) -> AsyncIterator[bytes]:
    """Yield what a client sends; one that falls silent gives up its place."""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        yield chunk


def _filename(start: FileStart, *, is_first: bool) -> str:
    if start.name != "file" or not is_first:
        raise InvalidError("The form has one file, in the field 'file'; take others out.", param=start.name[:100])
    if not 0 < len(start.filename) <= FILENAME_CHARACTERS or not start.filename.isprintable():
        raise InvalidError(
            f"A file's name has 1 to {FILENAME_CHARACTERS} printable characters; give it another.", param="file"
        )
    return start.filename


def _set(fields: JsonObject, field: Field) -> None:
    """Note a field; `expires_after[seconds]` is the field `seconds` of `expires_after`."""
    match = INNER.fullmatch(field.name)
    if match is None:
        fields[field.name] = field.value
    else:
        inner = fields.setdefault(match[1], {})
        if isinstance(inner, dict):
            inner[match[2]] = field.value
