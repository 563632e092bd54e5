"""Uploaded adapters on this machine's disk: fetched once, checked always, given up when others need the room."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from schemas.catalog import Model
from schemas.errors import AdapterGoneError, EngineError, NotFoundError
from storage import adapters
from storage.adapters import AdapterRow
from storage.database import Database
from storage.objects.port import ObjectStore, adapter_key
from tasks.adapters import AdapterFile, AdapterSource
from tasks.logs import get_logger
from tasks.loras.configs import FILE

WEIGHTS = "adapter_model.safetensors"
PIECE_BYTES = 2**20
THREADS = 2
TRIES = 3
KNOWN_ROWS = 10_000
UNFINISHED = "tmp"

log = get_logger(__name__)


class AdapterDisk:
    """An AdapterSource over the library's rows and objects. It lives in the engine's loop."""

    def __init__(
        self,
        model: Model,
        listed: AdapterSource,
        database: Database,
        objects: ObjectStore,
        folder: Path,
        *,
        most_bytes: int,
    ) -> None:
        self._model = model
        self._listed = listed
        self._database = database
        self._objects = objects
        self._folder = folder
        self._most_bytes = most_bytes
        self._threads = ThreadPoolExecutor(THREADS, "adapters")
        self._rows: dict[str, AdapterRow] = {}
        self._held: Counter[str] = Counter()
        self._fetching: dict[str, asyncio.Task[Path]] = {}
        self._sizes: OrderedDict[str, int] | None = None  # by name, those used last at the end; None: not looked at
        self._checked: dict[str, tuple[int, ...]] = {}  # what the file was like when its bytes were right

    async def fetch(self, adapter_id: str) -> AdapterFile:
        """Return an adapter whose bytes were checked; the catalog's stay where they are."""
        if adapter_id in self._model.adapters:
            return await self._listed.fetch(adapter_id)
        row = await self._find(adapter_id)
        name = disk_name(row)
        self._held[name] += 1
        try:
            path = await asyncio.shield(self._bring(row, name))
        except BaseException:
            self._let_go(name)
            raise
        return AdapterFile(row.id, row.name, name, path, row.rank or 0, is_catalog=False)

    def release(self, file: AdapterFile) -> None:
        """Let the disk have the room of a fetched adapter when it needs it."""
        if not file.is_catalog:
            self._let_go(file.sha256)

    def _let_go(self, name: str) -> None:
        self._held[name] -= 1
        if not self._held[name]:
            del self._held[name]

    async def _find(self, adapter_id: str) -> AdapterRow:
        """Return a row; deleted ones stay until no unfinished job names them, and rows never change."""
        if adapter_id not in self._rows:
            row = await self._database.aread(lambda connection: adapters.find(connection, adapter_id))
            if row is None or row.model != self._model.alias:
                raise AdapterGoneError
            if len(self._rows) >= KNOWN_ROWS:
                self._rows.clear()
            self._rows[adapter_id] = row
        return self._rows[adapter_id]

    def _bring(self, row: AdapterRow, name: str) -> asyncio.Task[Path]:
        """Have an adapter on the disk; whoever wants the same meanwhile waits for the same."""
        if name not in self._fetching:
            loop = asyncio.get_running_loop()

            async def bring() -> Path:
                try:
                    return await loop.run_in_executor(self._threads, self._have, row, name)
                finally:
                    del self._fetching[name]

            self._fetching[name] = loop.create_task(bring())
            self._fetching[name].add_done_callback(_note)
        return self._fetching[name]

    def _have(self, row: AdapterRow, name: str) -> Path:
        """Return the file, as it was or fetched anew. In a thread; one adapter is never in two of them."""
        folder = self._folder / name
        path = folder / WEIGHTS
        try:
            if not self._is_right(path, row, name):
                self._fetch(row, name)
                self._checked[name] = _likeness(path)
            self._touch(name, row.bytes)
        except OSError as error:
            raise EngineError(
                f"The adapter '{row.name}' could not be put on the worker's disk: {error.strerror}."
            ) from error
        return path

    def _is_right(self, path: Path, row: AdapterRow, name: str) -> bool:
        """Say whether the file holds the right bytes: read when it is new to this process, or has changed."""
        try:
            likeness = _likeness(path)
            if self._checked.get(name) == likeness:
                return True
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == row.sha256:
                    self._checked[name] = likeness
                    return True
        except FileNotFoundError:
            return False
        except OSError as error:
            log.warning("An adapter on the disk cannot be read.", adapter_id=row.id, why=error.strerror)
        log.warning("An adapter on the disk is damaged; it is fetched again.", adapter_id=row.id)
        return False

    def _fetch(self, row: AdapterRow, name: str) -> None:
        self._make_room(row.bytes, name)
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self._folder))
        try:
            for _ in range(TRIES):
                if self._download(row, unfinished / WEIGHTS) == row.sha256:
                    break
            else:
                raise AdapterGoneError(f"The adapter '{row.name}' is damaged in the object store; upload it again.")
            if row.config is not None:
                (unfinished / FILE).write_text(row.config)
            shutil.rmtree(self._folder / name, ignore_errors=True)
            unfinished.replace(self._folder / name)  # whole, or not there at all
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _download(self, row: AdapterRow, path: Path) -> str:
        try:
            reader = self._objects.open_read(adapter_key(row.object))
        except NotFoundError:
            raise AdapterGoneError from None
        digest = hashlib.sha256()
        try:
            with path.open("wb") as file:
                while piece := reader.read(PIECE_BYTES):
                    digest.update(piece)
                    file.write(piece)
        finally:
            reader.close()
        return digest.hexdigest()

    def _make_room(self, wanted: int, name: str) -> None:
        """Delete those that nobody holds and nobody has used for longest."""
        sizes = self._look()
        for other in [one for one in sizes if one != name and not self._held[one]]:
            if sum(sizes.values()) + wanted <= self._most_bytes:
                break
            shutil.rmtree(self._folder / other, ignore_errors=True)
            del sizes[other]
            self._checked.pop(other, None)

    def _touch(self, name: str, size: int) -> None:
        sizes = self._look()
        sizes[name] = size
        sizes.move_to_end(name)
        os.utime(self._folder / name)

    def _look(self) -> OrderedDict[str, int]:
        """Return what is on the disk; at first sight also what earlier processes left, and their unfinished work."""
        if self._sizes is None:
            self._sizes = OrderedDict()
            there = list(self._folder.iterdir()) if self._folder.is_dir() else []
            for path in sorted(there, key=lambda path: path.stat().st_mtime):
                if path.name.startswith(UNFINISHED) or not (path / WEIGHTS).is_file():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    self._sizes[path.name] = (path / WEIGHTS).stat().st_size
        return self._sizes


def disk_name(row: AdapterRow) -> str:
    """Return what equal weights that work equally have in common."""
    return row.sha256 if row.config is None else hashlib.sha256(f"{row.sha256} {row.config}".encode()).hexdigest()


def _likeness(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _note(task: asyncio.Task[Path]) -> None:
    """Take in the end of work that nobody may wait for any more."""
    if not task.cancelled():
        task.exception()
