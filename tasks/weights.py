"""Where a model's files are: a folder, a package, a hub, or a bucket that they are fetched from once."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from schemas.errors import FaultError, StartError
from storage.objects.port import ObjectStore
from tasks.logs import get_logger

PACKAGE = "package:"
BUCKET = "s3://"
LOCAL = ("/", "./", "../", "~")
PAGE_OBJECTS = 1000
PIECE_BYTES = 4 * 2**20
MARKS = ("modules.json", "config.json")
"""Files that say: this is a model's folder."""

log = get_logger(__name__)


class Weights:
    """Turns a catalog's sources into what engines can load."""

    def __init__(self, open_bucket: Callable[[str], ObjectStore], folder: Path) -> None:
        self.open_bucket = open_bucket
        self._folder = folder

    def locate(self, source: str) -> str:
        """Return a local folder, or the source itself when it is a hub's id; may fetch for a while."""
        if source.startswith(PACKAGE):
            return str(find_in_package(source.removeprefix(PACKAGE)))
        if source.startswith(BUCKET):
            return str(self._fetch(source))
        if source.startswith(LOCAL):
            return str(_check_folder(source))
        return source

    def locate_here(self, source: str) -> str:
        """Return a folder on this machine's disk; FileNotFoundError when it would have to be fetched."""
        if not source.startswith((PACKAGE, *LOCAL)):
            raise FileNotFoundError(source)
        return self.locate(source)

    def locate_files(self, source: str, revision: str, names: Sequence[str]) -> Path:
        """Return a local folder that has those of these files that the model has; fetches no more than them."""
        if source.startswith(BUCKET):
            return self._fetch(source, names)
        if source.startswith((PACKAGE, *LOCAL)):
            return Path(self.locate(source))
        return _fetch_from_hub(source, revision, names)

    def _fetch(self, source: str, names: Sequence[str] = ()) -> Path:
        folder = self._folder / hashlib.sha256(" ".join((source, *names)).encode()).hexdigest()[:16]
        if not folder.is_dir():
            with _alone(folder):
                if not folder.is_dir():
                    self._fetch_into(folder, source, names)
        return folder

    def _fetch_into(self, folder: Path, source: str, names: Sequence[str]) -> None:
        name, _, prefix = source.removeprefix(BUCKET).partition("/")
        log.info("Fetching the model.", source=source)
        unfinished = folder.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)  # of a worker that was killed while it fetched
        unfinished.mkdir()
        try:
            if not _download(self.open_bucket(name), f"{prefix.rstrip('/')}/", unfinished, names):
                raise StartError(f"There is nothing at {source}; upload the model or correct 'source'.")
            unfinished.replace(folder)  # whole, or not there at all
        except FaultError as fault:
            raise StartError(
                f"The model at {source} could not be fetched ({fault.__cause__ or fault}). Check that the object "
                "store answers and that the bucket exists, then start again."
            ) from fault
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time fetch what shall lie in a folder; the others wait and find it there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(bucket: ObjectStore, prefix: str, folder: Path, names: Sequence[str]) -> int:
    """Download all files, or those of these names; return how many."""
    after, count = None, 0
    while True:
        page = bucket.list(prefix, after, PAGE_OBJECTS)
        for found in page:
            name = found.key.removeprefix(prefix)
            if found.key.endswith("/") or (names and name not in names):  # consoles mark folders with empty objects
                continue
            _save(bucket, found.key, folder / name)
            count += 1
        if len(page) < PAGE_OBJECTS:
            return count
        after = page[-1].key


def _save(bucket: ObjectStore, key: str, path: Path) -> None:
    reader = bucket.open_read(key)  # which refuses keys that are no paths below the folder
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            while piece := reader.read(PIECE_BYTES):
                file.write(piece)
    finally:
        reader.close()


def _fetch_from_hub(source: str, revision: str, names: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - half a second that few processes need

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(names)))
    except (OSError, ValueError) as error:
        raise StartError(
            f"The files of {source} could not be fetched from the hub ({type(error).__name__}). Check the id, the "
            "revision and the network, or name a local folder as 'source'."
        ) from error


def find_in_package(name: str) -> Path:
    """Return the folder of the model that a Python package holds."""
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise StartError(f"The package '{name}' that the catalog names as a source is not installed: pip install it.")
    root = Path(found.submodule_search_locations[0])
    for mark in MARKS:
        marked = sorted(root.rglob(mark), key=lambda path: len(path.parts))
        if marked:
            return marked[0].parent
    raise StartError(f"The package '{name}' holds no model: none of {', '.join(MARKS)} is in it. Correct 'source'.")


def _check_folder(source: str) -> Path:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise StartError(f"The model's folder {source} does not exist; create it or correct 'source' in the catalog.")
    return folder
