"""Models as adapters meet them: the shapes of their layers, from the heads of their files; no weight is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from pydantic_core import from_json

from schemas.catalog import Model
from schemas.errors import FaultError, InvalidError, StartError, UnavailableError
from schemas.jobs import Kind
from storage.objects.port import ObjectStore
from tasks.loras.header import LENGTH_BYTES, read_length
from tasks.loras.matching import WHOLE, Base
from tasks.weights import BUCKET, LOCAL, PACKAGE, Weights

FILES = "*.safetensors"
PARTS = {Kind.TEXT: ("",), Kind.IMAGE: ("unet/", "transformer/", "text_encoder/", "text_encoder_2/")}
OTHERS = ("consolidated*", "adapter*")
"""Files beside a model's own that hold it in another form, or something else."""
WEIGHT = ".weight"
PIECE_BYTES = 256 * 2**10
PAGE_OBJECTS = 1000

Shapes = Mapping[str, tuple[int, ...]]


class Bases:
    """The models of a catalog, each read when it is first asked for. Reading may take a while."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._known: dict[str, Base] = {}

    def read(self, model: Model) -> Base:
        """Return a model's layers."""
        if model.alias not in self._known:
            self._known[model.alias] = self._read(model)
        return self._known[model.alias]

    def _read(self, model: Model) -> Base:
        try:
            found = list(self._files(model))
        except (OSError, ValueError, FaultError, StartError, InvalidError) as error:
            raise UnavailableError(
                f"The weights of '{model.alias}' cannot be read at this moment, so nothing can be held against them; "
                "try again later, or tell the operator."
            ) from error
        base: dict[str, dict[str, tuple[int, ...]]] = {}
        for part, shapes in found:
            layers = base.setdefault(part, {})
            layers |= {name.removesuffix(WEIGHT): shape for name, shape in shapes.items() if name.endswith(WEIGHT)}
        return base

    def _files(self, model: Model) -> Iterable[tuple[str, Shapes]]:
        """Yield the part that each of a model's files belongs to, and the shapes in it."""
        source = model.source
        if source.startswith(BUCKET):
            name, _, prefix = source.removeprefix(BUCKET).partition("/")
            return _in_bucket(self._weights.open_bucket(name), f"{prefix.rstrip('/')}/", model.kind)
        if source.startswith((PACKAGE, *LOCAL)):
            return _in_folder(Path(self._weights.locate(source)), model.kind)
        return _on_hub(source, model.revision, model.kind)


def _part(path: str, kind: Kind) -> str | None:
    """Return the part that a file belongs to, None when it is no adapter's business."""
    folder, slash, name = path.rpartition("/")
    is_ours = fnmatch(name, FILES) and not any(fnmatch(name, other) for other in OTHERS)
    return (folder or WHOLE) if is_ours and f"{folder}{slash}" in PARTS.get(kind, ()) else None


def _in_folder(folder: Path, kind: Kind) -> Iterable[tuple[str, Shapes]]:
    for path in sorted(folder.rglob(FILES)):
        part = _part(path.relative_to(folder).as_posix(), kind)
        if part is not None:
            with path.open("rb") as file:
                yield part, _read_shapes(iter(partial(file.read, PIECE_BYTES), b""))


def _in_bucket(bucket: ObjectStore, prefix: str, kind: Kind) -> Iterable[tuple[str, Shapes]]:
    for found in bucket.list(prefix, None, PAGE_OBJECTS):
        part = _part(found.key.removeprefix(prefix), kind)
        if part is not None:
            reader = bucket.open_read(found.key)
            try:
                yield part, _read_shapes(iter(partial(reader.read, PIECE_BYTES), b""))
            finally:
                reader.close()


def _on_hub(source: str, revision: str, kind: Kind) -> Iterable[tuple[str, Shapes]]:
    from huggingface_hub import HfApi  # noqa: PLC0415 - half a second that few processes need

    hub = HfApi()
    for path in hub.list_repo_files(source, revision=revision):
        part = _part(path, kind)
        if part is not None:
            head = hub.parse_safetensors_file_metadata(source, path, revision=revision)
            yield part, {name: tuple(tensor.shape) for name, tensor in head.tensors.items()}


def _read_shapes(pieces: Iterable[bytes]) -> Shapes:
    """Read a head from as few pieces as it takes. It is the owner's own, and may name types that no adapter has."""
    raw, end = b"", LENGTH_BYTES
    for piece in pieces:
        raw += piece
        if end == LENGTH_BYTES <= len(raw):
            end += read_length(raw[:LENGTH_BYTES])
        if LENGTH_BYTES < end <= len(raw):
            return {name: tuple(line.get("shape", ())) for name, line in from_json(raw[LENGTH_BYTES:end]).items()}
    raise InvalidError("A file of the model ends before its head does.")
