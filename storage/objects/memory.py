"""The object store's in-memory twin, for tests."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from urllib.parse import quote, urlencode

from schemas.errors import NotFoundError, ObjectStoreFaultError
from storage.objects.port import StoredObject, check_key, check_prefix, disposition


class MemoryUpload:
    """An upload to memory."""

    def __init__(self, store: MemoryObjectStore, key: str) -> None:
        self._store = store
        self._key = key
        self._content = bytearray()
        self.begun_at = time.time()

    def add(self, part: bytes | bytearray) -> None:
        """Take the next part."""
        self._content += part

    def finish(self) -> None:
        """Store the object."""
        if not self._store.end_upload(self._key, self):
            raise ObjectStoreFaultError
        self._store.put(self._key, bytes(self._content), "")

    def abort(self) -> None:
        """Forget the parts."""
        self._store.end_upload(self._key, self)


class MemoryObjectStore:
    """Objects in a dictionary; its addresses begin with memory:// and lead nowhere."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._uploads: list[tuple[str, MemoryUpload]] = []

    def put(self, key: str, content: bytes, content_type: str) -> str:  # noqa: ARG002 - our rows have the type
        """Store an object."""
        with self._lock:
            self._objects[check_key(key)] = (content, datetime.now(UTC))
        return hashlib.sha256(content).hexdigest()

    async def aput(self, key: str, content: bytes, content_type: str) -> str:
        """Store an object."""
        return self.put(key, content, content_type)

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        with self._lock:
            if check_key(key) not in self._objects:
                raise NotFoundError
            return self._objects[key][0]

    def open_read(self, key: str) -> BytesIO:
        """Begin to read an object."""
        return BytesIO(self.get(key))

    def open_upload(self, key: str, content_type: str) -> MemoryUpload:  # noqa: ARG002 - our rows have the type
        """Begin to store an object."""
        upload = MemoryUpload(self, check_key(key))
        with self._lock:
            self._uploads.append((key, upload))
        return upload

    def end_upload(self, key: str, upload: MemoryUpload) -> bool:
        """Forget an upload; False when it was forgotten before."""
        with self._lock:
            known = (key, upload) in self._uploads
            if known:
                self._uploads.remove((key, upload))
        return known

    def abort_uploads(self, prefix: str, begun_before: float) -> int:
        """Forget old uploads."""
        with self._lock:
            old = [one for one in self._uploads if one[0].startswith(prefix) and one[1].begun_at < begun_before]
        return sum(self.end_upload(*one) for one in old)

    def head(self, key: str) -> int | None:
        """Return an object's size in bytes."""
        with self._lock:
            found = self._objects.get(check_key(key))
            return None if found is None else len(found[0])

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects."""
        with self._lock:
            for key in keys:
                self._objects.pop(check_key(key), None)

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object whose key begins so."""
        check_prefix(prefix)
        with self._lock:
            for key in [key for key in self._objects if key.startswith(prefix)]:
                del self._objects[key]

    def list(self, prefix: str, after: str | None, limit: int) -> Sequence[StoredObject]:
        """Return the next objects in the order of their keys."""
        with self._lock:
            keys = sorted(key for key in self._objects if key.startswith(prefix) and key > (after or ""))
            found = [(key, *self._objects[key]) for key in keys[:limit]]
        return [StoredObject(key, modified_at, len(content)) for key, content, modified_at in found]

    def presign_get(self, key: str, *, expires_seconds: int, content_type: str, filename: str | None = None) -> str:
        """Return an address that says what it would do."""
        options: dict[str, str | int] = {"expires": expires_seconds, "response-content-type": content_type}
        if filename is not None:
            options["response-content-disposition"] = disposition(filename, content_type)
        return _address(key, options)

    def presign_put(self, key: str, *, content_length: int, content_type: str, expires_seconds: int) -> str:
        """Return an address that says what it would do."""
        options: dict[str, str | int] = {"expires": expires_seconds, "content-length": content_length}
        options["content-type"] = content_type
        return _address(key, options)

    def check(self) -> None:
        """Memory is always there."""

    def ensure_bucket(self) -> None:
        """Memory needs no bucket."""

    def close(self) -> None:
        """Memory has no connections."""

    async def aclose(self) -> None:
        """Memory has none for an event loop either."""


def _address(key: str, options: dict[str, str | int]) -> str:
    return f"memory://{quote(check_key(key))}?{urlencode(options)}"
