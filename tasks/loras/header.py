"""The head of a safetensors file: which tensors it holds, and where; read from its first bytes and never trusted."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeGuard

from pydantic_core import from_json

from schemas.base import JsonObject
from schemas.errors import InvalidError

LENGTH_BYTES = 8
HEADER_BYTES = 8 * 2**20
"""The largest head that is read: a LoRA of the largest models needs a tenth of it."""
TENSORS_LIMIT = 20_000
NAME_CHARACTERS = 512
DIMENSIONS_LIMIT = 8
DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
METADATA = "__metadata__"
MEND = "upload a LoRA as a whole .safetensors file"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's line."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself, and how long it must be for that."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    file_bytes: int

    def check_size(self, size: int) -> None:
        """Refuse a file that holds less or more than its head says."""
        if size != self.file_bytes:
            raise _bad(
                f"The file is {size:,} bytes long, and its own head says {self.file_bytes:,}: it is cut off or "
                f"damaged; {MEND}."
            )


class HeaderReader:
    """Takes a file's first bytes as they come, until it has the head."""

    def __init__(self) -> None:
        self.header: Header | None = None
        self._raw = bytearray()
        self._end: int | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes; what cannot become a head is refused at once."""
        if self.header is not None:
            return
        self._raw += piece[: LENGTH_BYTES + HEADER_BYTES - len(self._raw)]
        if self._end is None and len(self._raw) >= LENGTH_BYTES:
            self._end = LENGTH_BYTES + read_length(bytes(self._raw[:LENGTH_BYTES]))
        if self._end is not None and len(self._raw) >= self._end:
            self.header = read_header(bytes(self._raw[LENGTH_BYTES : self._end]))
            self._raw.clear()

    def finish(self, size: int) -> Header:
        """Return the head of a file that has so many bytes in all."""
        if self.header is None:
            raise _bad(f"The file ends before its head does; {MEND}.")
        self.header.check_size(size)
        return self.header


def read_length(raw: bytes) -> int:
    """Return how long the head is, or say what the file is instead."""
    if raw.startswith(b"PK"):
        raise _bad(f"The file is a zip archive or a pickle of torch.save, not a safetensors file; {MEND}.")
    if raw.startswith(b"\x80") and raw[1] in range(2, 6) and raw[2:] != bytes(6):
        raise _bad(f"The file is a Python pickle, which is never opened here; {MEND}.")
    length = int(struct.unpack("<Q", raw)[0])
    if not 2 <= length <= HEADER_BYTES:  # noqa: PLR2004 - the two braces
        raise _bad(f"The file does not begin as a safetensors file does; {MEND}.")
    return length


def read_header(raw: bytes) -> Header:
    """Read a head: its JSON may not be deep, its tensors lie one after the other without holes."""
    try:
        said = from_json(raw)  # which goes no deeper than 200
    except ValueError:
        raise _bad(f"The file's head is not JSON; {MEND}.") from None
    if not isinstance(said, dict):
        raise _bad(f"The file's head is not a JSON object; {MEND}.")
    metadata = said.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _bad(f"The file's '{METADATA}' is not a table of strings; {MEND}.")
    if not 0 < len(said) <= TENSORS_LIMIT:
        raise _bad(f"The file has {len(said):,} tensors; a LoRA has 1 to {TENSORS_LIMIT:,}.")
    tensors, end = _read_tensors(said)
    return Header(tensors, metadata, LENGTH_BYTES + len(raw) + end)


def _read_tensors(said: JsonObject) -> tuple[dict[str, Tensor], int]:
    """Return the tensors and where the last one ends."""
    spans = sorted((*_span(name, line), name) for name, line in said.items())
    at = 0
    for begin, end, name in spans:
        if begin != at:
            raise _bad(f"The tensor {shown(name)} does not begin where the one before it ends; {MEND}.")
        at = end
    return {name: _read_tensor(name, line) for name, line in said.items()}, at


def _span(name: str, line: Any) -> tuple[int, int]:
    offsets = line.get("data_offsets") if isinstance(line, dict) else None
    if not _are_counts(offsets, 2) or not offsets[0] <= offsets[1]:
        raise _bad(f"The tensor {shown(name)} has no 'data_offsets'; {MEND}.")
    return offsets[0], offsets[1]


def _read_tensor(name: str, line: JsonObject) -> Tensor:
    dtype, shape = line.get("dtype"), line.get("shape")
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        known = ", ".join(DTYPE_BYTES)
        raise _bad(f"The tensor {shown(name)} has the type {shown(str(dtype))}; those of a LoRA are {known}.")
    if not _are_counts(shape) or len(shape) > DIMENSIONS_LIMIT or len(name) > NAME_CHARACTERS:
        raise _bad(f"The tensor {shown(name)} has no usable name and shape; {MEND}.")
    begin, end = line["data_offsets"]
    if prod(shape) * DTYPE_BYTES[dtype] != end - begin:
        raise _bad(f"The tensor {shown(name)} has more or fewer bytes than its shape needs; {MEND}.")
    return Tensor(dtype, tuple(shape))


def _are_counts(value: Any, length: int | None = None) -> TypeGuard[list[int]]:
    """Say whether something is a list of natural numbers that a file can have."""
    return (
        isinstance(value, list)
        and (length is None or len(value) == length)
        and all(type(one) is int and 0 <= one < 2**53 for one in value)
    )


def shown(name: str) -> str:
    """Return a name from a file as a sentence can hold it."""
    return repr(name if len(name) <= 100 else f"{name[:100]}…")  # noqa: PLR2004 - enough to find it


def _bad(sentence: str) -> InvalidError:
    return InvalidError(sentence, param="file")
