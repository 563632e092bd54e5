"""Answers: how a line's looks, and all of a batch's in the order of its file."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from pydantic_core import from_json, to_json

from schemas.base import JsonObject
from schemas.batches import LineEnd, LineStatus
from schemas.events import rows_of
from schemas.ids import new_id
from storage import batch_lines
from storage.batch_lines import LineRow
from storage.batches import BatchRow
from storage.database import Database
from storage.objects.port import ObjectStore, answer_key, chunk_key

PAGE_LINES = 1_000
KEPT_BYTES = 64 * 2**20
"""Lines that ended together lie in one object, and their neighbours are near: it is read once."""
WHY = {
    LineEnd.EXPIRED: "This request could not be executed before the completion window expired.",
    LineEnd.CANCELLED: "The batch was canceled before this request was answered.",
    LineEnd.WORKER_LOST: "Three workers died while they ran this request; it is not tried again.",
    LineEnd.MODEL_REMOVED: "The model was removed from the catalog before this request could run.",
}


def new_answer_id() -> str:
    """Return the id of an answer to be."""
    return new_id("batch_req")


def render_answer(answer_id: str, custom_id: str, status: int, body: JsonObject) -> bytes:
    """Return the line that answers a line."""
    response = {"status_code": status, "request_id": answer_id, "body": body}
    said = {"id": answer_id, "custom_id": custom_id, "response": response, "error": None}
    return to_json(said, inf_nan_mode="null", fallback=rows_of) + b"\n"


def render_no_answer(custom_id: str, why: LineEnd) -> bytes:
    """Return the line that says why there is no answer."""
    error = {"code": why.value, "message": WHY[why]}
    return to_json({"id": new_answer_id(), "custom_id": custom_id, "response": None, "error": error}) + b"\n"


def read_custom_id(line: bytes) -> str:
    """Return what the caller calls a line that is known to be valid."""
    name: str = from_json(line)["custom_id"]
    return name


class Answers:
    """The answers to one batch, read from where groups of them were stored. It blocks: use it in a thread."""

    def __init__(
        self, database: Database, objects: ObjectStore, batch: BatchRow, most_kept_bytes: int = KEPT_BYTES
    ) -> None:
        self._database = database
        self._objects = objects
        self._batch = batch
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._most_kept_bytes = most_kept_bytes

    def walk(self) -> Iterator[tuple[bool, bytes]]:
        """Yield the lines of the output, as far as there is one: whether each succeeded, and what it says."""
        after = -1
        while page := self._page(after):
            for row in page:
                yield row.status == LineStatus.SUCCEEDED, self._read(row)
            after = page[-1].id

    def _page(self, after: int) -> list[LineRow]:
        number = self._batch.number
        return self._database.read(lambda connection: batch_lines.walk(connection, number, after, PAGE_LINES))

    def _read(self, row: LineRow) -> bytes:
        if row.answer is None or row.start is None or row.length is None:
            given = self._object(chunk_key(self._batch.id, row.chunk)).split(b"\n")[row.place]
            return render_no_answer(read_custom_id(given), LineEnd(row.error or LineEnd.WORKER_LOST))
        return self._object(answer_key(self._batch.id, row.answer))[row.start : row.start + row.length]

    def _object(self, key: str) -> bytes:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        content = self._kept[key] = self._objects.get(key)
        self._kept_bytes += len(content)
        while self._kept_bytes > self._most_kept_bytes and len(self._kept) > 1:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])
        return content
