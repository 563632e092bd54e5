"""An adapter's bytes on their way into the object store: its head is read as they pass."""

from __future__ import annotations

from storage.objects.port import ObjectStore, adapter_key
from storage.objects.writer import ObjectWriter
from tasks.loras.header import Header, HeaderReader

CONTENT_TYPE = "application/octet-stream"


class LoraWriter(ObjectWriter):
    """Refuses what is no safetensors file at its first bytes."""

    def __init__(self, objects: ObjectStore, adapter_id: str) -> None:
        super().__init__(objects, adapter_key(adapter_id), CONTENT_TYPE)
        self.adapter_id = adapter_id
        self._reader = HeaderReader()

    def add(self, piece: bytes) -> bool:
        """Take the next bytes; True says that it is time to flush."""
        self._reader.feed(piece)
        return super().add(piece)

    def header(self) -> Header:
        """Return the head of what has come in whole."""
        return self._reader.finish(self.bytes)
