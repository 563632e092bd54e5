"""Validation: a batch's file is read once as a stream, cut into chunks, and becomes rows when it has no flaw."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import cycle

from schemas.base import JsonObject
from schemas.batches import Endpoint, Flaw
from schemas.catalog import Catalog, Model
from schemas.errors import NotFoundError, StokerError
from schemas.files import JSON_LINES
from storage import batch_work, queues
from storage.batch_work import NewLine
from storage.database import Database
from storage.objects.port import ObjectStore, answer_key, chunk_key, file_key
from storage.rows import to_json
from tasks.adapter_names import finder
from tasks.batches.adapters import Namings
from tasks.batches.answers import new_answer_id, read_custom_id, render_answer
from tasks.batches.hold import Hold
from tasks.doors.bodies import read_line, refuse_line
from tasks.lines import Inspection, split_lines
from tasks.routing import placements_of, split_variant

CHUNK_LINES = 256
CHUNK_BYTES = 4 * 2**20
LINES_PER_TURN = 64
"""So many lines in a row go to the same placement of their model."""


@dataclass(slots=True)
class Gathered:
    """Lines that will be one object."""

    lines: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, line: bytes) -> None:
        """Take one more."""
        self.lines.append(line)
        self.size += len(line)

    @property
    def is_enough(self) -> bool:
        """Say whether it is time to store them."""
        return len(self.lines) >= CHUNK_LINES or self.size >= CHUNK_BYTES

    def take(self) -> bytes:
        """Return all of them, each with its end, and be empty."""
        content = b"\n".join([*self.lines, b""])
        self.lines, self.size = [], 0
        return content


class Validation:
    """One try to validate the file of one batch. It blocks: it is run in a thread."""

    def __init__(self, database: Database, objects: ObjectStore, catalog: Catalog, hold: Hold, max_lines: int) -> None:
        self._database = database
        self._objects = objects
        self._catalog = catalog
        self._hold = hold
        self._batch = hold.row
        self._endpoint = Endpoint(hold.row.endpoint)
        self._inspection = Inspection(self._endpoint, max_lines)
        self._namings = Namings(database, hold.row.caller_id)
        self._turns: dict[str, Iterator[str]] = {}
        self._chunk = Gathered()
        self._chunks = 0
        self._refused = Gathered()
        self._lines: list[NewLine] = []
        self._answered: list[int] = []  # which lines the gathered refusals are for

    def run(self) -> list[str]:
        """Publish the lines or fail the batch; return the queues that got work."""
        try:
            self._read()
        except NotFoundError:
            message = "The input file is gone; upload it again and create another batch."
            self._inspection.flaws.append(Flaw(code="file_not_found", line=None, message=message))
        row, flaws = self._batch, self._inspection.flaws
        if flaws:
            said = to_json([flaw.model_dump() for flaw in flaws]) or "[]"
            self._hold.check(self._database.transact(lambda connection: batch_work.fail(connection, row, said)))
            return []
        self._hold.check(self._database.transact(lambda connection: batch_work.publish(connection, row, self._lines)))
        return sorted({line.queue for line in self._lines if line.answer is None})

    def _read(self) -> None:
        reader = self._objects.open_read(file_key(self._batch.input_file_id))
        try:
            for line, body in self._inspection.look(split_lines(reader)):
                self._take(line, body)
                if self._chunk.is_enough:
                    self._store_chunk()
        finally:
            reader.close()
        if not self._inspection.flaws:
            self._store_chunk()
            self._store_refused()
            self._namings.store(self._objects, self._batch.id)

    def _take(self, line: bytes, body: JsonObject) -> None:
        index = len(self._lines)
        try:
            queue = self._queue_of(self._model_of(line, body))
        except StokerError as refused:
            queue = ""
            self._refuse(line, index, refused)
        self._lines.append(NewLine(queue, self._chunks, len(self._chunk.lines)))
        self._chunk.add(line)

    def _model_of(self, line: bytes, body: JsonObject) -> Model:
        name = body.get("model")
        if not isinstance(name, str):
            return read_line(self._endpoint, line, self._catalog).model
        model, variant = split_variant(self._catalog, name)
        self._namings.note(model, body, variant)
        return finder(self._namings.meanings)(self._catalog, name)[0]

    def _queue_of(self, model: Model) -> str:
        """Give the placements of a model their turns; whoever is done early takes from the others."""
        if model.alias not in self._turns:
            self._turns[model.alias] = cycle([one for one in self._open(model) for _ in range(LINES_PER_TURN)])
        return next(self._turns[model.alias])

    def _open(self, model: Model) -> list[str]:
        """Return a model's queues without the paused ones, from which nobody takes; all when all are paused."""
        paused = {row.name for row in self._database.read(queues.all_queues) if row.paused}
        found = [place.queue for place in placements_of(model)]
        return [queue for queue in found if queue not in paused] or found

    def _refuse(self, line: bytes, index: int, error: StokerError) -> None:
        answer_id = new_answer_id()
        status, body = refuse_line(self._endpoint, error, answer_id)
        self._answered.append(index)
        self._refused.add(render_answer(answer_id, read_custom_id(line), status, body).removesuffix(b"\n"))

    def _store_chunk(self) -> None:
        self._hold.keep()
        if self._chunk.lines:
            self._objects.put(chunk_key(self._batch.id, self._chunks), self._chunk.take(), JSON_LINES)
            self._chunks += 1
        if self._refused.is_enough:
            self._store_refused()

    def _store_refused(self) -> None:
        if not self._refused.lines:
            return
        name, start = secrets.token_hex(8), 0
        for index, line in zip(self._answered, self._refused.lines, strict=True):
            length = len(line) + 1
            self._lines[index] = replace(self._lines[index], answer=name, start=start, length=length)
            start += length
        self._answered = []
        self._objects.put(answer_key(self._batch.id, name), self._refused.take(), JSON_LINES)
