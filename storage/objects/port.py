"""What an object store does, and the keys under which things lie."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from urllib.parse import quote

KEY_BYTES = 1024
SHOWN_TYPES = frozenset({"image/png", "image/jpeg"})
"""What a browser may show from where objects lie: nothing that can hold a script."""
# No empty, '.' or '..' segment, no control character, no backslash: a key may become a path on a server's disk.
_KEY = re.compile(r"(?!\.{1,2}(/|$))[^/\\\x00-\x1f\x7f]+(/(?!\.{1,2}(/|$))[^/\\\x00-\x1f\x7f]+)*")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One line of a listing."""

    key: str
    modified_at: datetime
    bytes: int


class Upload(Protocol):
    """An object that arrives in parts; nobody sees it before it is whole."""

    def add(self, part: bytes | bytearray) -> None:
        """Store the next part: at least 5 MiB, but for the last one."""
        ...

    def finish(self) -> None:
        """Make one object of the parts, replacing what was there."""
        ...

    def abort(self) -> None:
        """Forget the parts; after the end it does nothing."""
        ...


class Reader(Protocol):
    """An object's bytes, from the first on."""

    def read(self, limit: int) -> bytes:
        """Return the next bytes, up to so many; none at the end."""
        ...

    def close(self) -> None:
        """Stop reading."""
        ...


class ObjectStore(Protocol):
    """Bytes under keys. Calls may block for seconds, so they belong into threads; `aput` and presigning do not.

    A sick store raises ObjectStoreFaultError, a key that is no key ValueError.
    """

    def put(self, key: str, content: bytes, content_type: str) -> str:
        """Store an object, replacing what was there; return its SHA-256."""
        ...

    async def aput(self, key: str, content: bytes, content_type: str) -> str:
        """Like put, without blocking the event loop."""
        ...

    def get(self, key: str) -> bytes:
        """Return an object's bytes; NotFoundError when there is none."""
        ...

    def open_read(self, key: str) -> Reader:
        """Begin to read an object that is too large for the memory; NotFoundError when there is none."""
        ...

    def open_upload(self, key: str, content_type: str) -> Upload:
        """Begin to store an object that is too large for the memory."""
        ...

    def abort_uploads(self, prefix: str, begun_before: float) -> int:
        """Forget up to a thousand uploads that began before a moment and never ended; return how many."""
        ...

    def head(self, key: str) -> int | None:
        """Return an object's size in bytes, None when there is none."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that do not exist are fine."""
        ...

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object whose key begins so."""
        ...

    def list(self, prefix: str, after: str | None, limit: int) -> Sequence[StoredObject]:
        """Return the next objects in the order of their keys; fewer than `limit` are the last."""
        ...

    def presign_get(self, key: str, *, expires_seconds: int, content_type: str, filename: str | None = None) -> str:
        """Return an address from which anybody can download an object for a while, saved as `filename`."""
        ...

    def presign_put(self, key: str, *, content_length: int, content_type: str, expires_seconds: int) -> str:
        """Return an address to which anybody can upload exactly so many bytes of that type for a while."""
        ...

    def check(self) -> None:
        """Raise ObjectStoreFaultError within seconds unless the store answers."""
        ...

    def ensure_bucket(self) -> None:
        """Create the bucket if it does not exist."""
        ...

    def close(self) -> None:
        """Let go of threads' connections."""
        ...

    async def aclose(self) -> None:
        """Let go of the running event loop's connections."""
        ...


def object_key(job_id: str, attempt: int, name: str) -> str:
    """Return a key that was never used before for a result of an attempt."""
    return check_key(f"{job_prefix(job_id)}{attempt}-{secrets.token_hex(8)}-{name}")  # no folder of its own on disks


def input_key(job_id: str) -> str:
    """Return the key of a job's input."""
    return check_key(f"{job_prefix(job_id)}input.json")


def file_key(file_id: str) -> str:
    """Return the key of a file's content."""
    return check_key(f"files/{file_id}/content")


def adapter_key(name: str) -> str:
    """Return the key of an adapter's weights; `name` is the `object` of its row."""
    return check_key(f"loras/{name}/content")


def awaited_key(adapter_id: str) -> str:
    """Return the key to which a caller may upload an adapter's weights himself; they are judged there."""
    return check_key(f"lora-uploads/{adapter_id}/content")


def chunk_key(batch_id: str, chunk: int) -> str:
    """Return the key of a part of a batch's input."""
    return check_key(f"{batch_prefix(batch_id)}input/{chunk}")


def meanings_key(batch_id: str) -> str:
    """Return the key of what a batch's lines mean by the names of adapters."""
    return check_key(f"{batch_prefix(batch_id)}adapters.json")


def answer_key(batch_id: str, name: str) -> str:
    """Return the key of some of a batch's answers."""
    return check_key(f"{batch_prefix(batch_id)}answers/{name}")


def batch_prefix(batch_id: str) -> str:
    """Return what the keys of all of a batch's own objects begin with; its files are files."""
    return f"batches/{batch_id}/"


def job_prefix(job_id: str) -> str:
    """Return what the keys of all of a job's objects begin with."""
    return f"jobs/{job_id}/"


def check_key(key: str) -> str:
    """Return the key, or raise ValueError when it is none."""
    if not _KEY.fullmatch(key) or len(key.encode()) > KEY_BYTES:
        raise ValueError(f"{key[:100]!r} is no object key: use segments between single slashes, none of them '..'")
    return key


def check_prefix(prefix: str) -> str:
    """Return the prefix, or raise ValueError when it would match more than one thing's objects."""
    if not prefix.endswith("/"):
        raise ValueError(f"{prefix[:100]!r} is no prefix to delete: it must end in a slash")
    return f"{check_key(prefix[:-1])}/"


def disposition(filename: str, content_type: str = "") -> str:
    """Return the Content-Disposition under which browsers save an object, in any script; pictures they show."""
    how = "inline" if content_type in SHOWN_TYPES else "attachment"
    return f"{how}; filename*=UTF-8''{quote(filename, safe='')}"
