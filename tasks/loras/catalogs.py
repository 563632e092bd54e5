"""The adapters that a catalog lists, as they lie on the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from schemas.catalog import Adapter
from schemas.errors import StartError
from tasks.loras.header import HeaderReader
from tasks.loras.matching import UPS

PIECE_BYTES = 256 * 2**10


@dataclass(frozen=True, slots=True)
class Found:
    """A catalog's adapter: its file, and what there is to say of it."""

    path: Path
    sha256: str
    bytes: int
    rank: int
    dtype: str


def find_adapter(adapter: Adapter, locate: Callable[[str], str]) -> Found:
    """Look at a catalog's adapter; may fetch for a while. What is wrong with it stops the start."""
    folder = Path(locate(adapter.source))
    path = next(iter(sorted(folder.glob("*.safetensors"))), None)
    if path is None:
        raise StartError(f"There is no .safetensors file in {folder}, so no adapter; correct 'source' in the catalog.")
    reader, sha256, size = HeaderReader(), hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            reader.feed(piece)
            sha256.update(piece)
            size += len(piece)
    header = reader.finish(size)
    ranks = [tensor.shape[1] for name, tensor in header.tensors.items() if UPS.search(name) and len(tensor.shape) > 1]
    dtype = next(iter(header.tensors.values())).dtype
    return Found(path, sha256.hexdigest(), size, max(ranks, default=0), dtype)
