"""One way to write an object whose size nobody knows yet: small ones go in one put, large ones part by part."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from storage.objects.port import ObjectStore, Upload

PART_BYTES = 5 * 2**20
"""The smallest part that S3 takes. It is all that a writer holds in memory."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a row says of an object."""

    bytes: int
    sha256: str


class ObjectWriter:
    """Takes an object's bytes in order. `add` never blocks; `flush`, `finish` and `abort` belong into a thread."""

    def __init__(self, objects: ObjectStore, key: str, content_type: str) -> None:
        self._objects = objects
        self._key = key
        self._content_type = content_type
        self._waiting = bytearray()
        self._hash = hashlib.sha256()
        self._upload: Upload | None = None
        self.bytes = 0

    def add(self, piece: bytes) -> bool:
        """Take the next bytes; True says that it is time to flush."""
        self._waiting += piece
        self.bytes += len(piece)
        return len(self._waiting) >= PART_BYTES

    def flush(self) -> None:
        """Send what was taken as a part."""
        if self._upload is None:
            self._upload = self._objects.open_upload(self._key, self._content_type)
        part, self._waiting = self._waiting, bytearray()
        self._hash.update(part)
        self._upload.add(part)

    def finish(self) -> Written:
        """Make the object visible, whole."""
        if self._upload is None:
            sha256 = self._objects.put(self._key, bytes(self._waiting), self._content_type)
            return Written(self.bytes, sha256)
        if self._waiting:
            self.flush()
        self._upload.finish()
        return Written(self.bytes, self._hash.hexdigest())

    def abort(self) -> None:
        """Leave nothing behind."""
        if self._upload is not None:
            self._upload.abort()
