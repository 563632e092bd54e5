"""Assembly: the answers to a batch become its output file and its error file, part by part, in the input's order."""

from __future__ import annotations

from contextlib import suppress

from schemas.errors import FaultError
from schemas.files import JSON_LINES, Purpose
from schemas.ids import new_id
from storage import batch_work
from storage.batches import BatchRow
from storage.database import Database
from storage.files import NewFile
from storage.objects.port import ObjectStore, batch_prefix, file_key
from storage.objects.writer import ObjectWriter
from tasks.batches.answers import Answers
from tasks.batches.hold import Hold
from tasks.logs import get_logger

KEPT_EVERY_LINES = 100

log = get_logger(__name__)


class Sheet:
    """One file in the making; without a line there is none."""

    def __init__(self, objects: ObjectStore, batch: BatchRow, suffix: str) -> None:
        self._batch = batch
        self._filename = f"{batch.id}_{suffix}.jsonl"
        self._file_id = new_id("file")
        self._writer = ObjectWriter(objects, file_key(self._file_id), JSON_LINES)

    def add(self, line: bytes) -> None:
        """Take the next line."""
        if self._writer.add(line):
            self._writer.flush()

    def finish(self) -> NewFile | None:
        """Make the file's object; return what its row will say."""
        if not self._writer.bytes:
            return None
        written = self._writer.finish()
        return NewFile(
            self._file_id,
            self._batch.caller_id,
            Purpose.BATCH_OUTPUT.value,
            self._filename,
            written.bytes,
            written.sha256,
            self._batch.output_kept_seconds,
        )

    def abort(self) -> None:
        """Leave nothing behind, if the store can be asked."""
        with suppress(FaultError):  # the sweep finds what is left
            self._writer.abort()


class Assembly:
    """One try to end one batch. It blocks: it is run in a thread."""

    def __init__(self, database: Database, objects: ObjectStore, hold: Hold) -> None:
        self._database = database
        self._objects = objects
        self._hold = hold
        self._batch = hold.row

    def run(self) -> None:
        """Write both files, end the batch, clear up after it."""
        output, error = Sheet(self._objects, self._batch, "output"), Sheet(self._objects, self._batch, "error")
        try:
            self._write(output, error)
            files = output.finish(), error.finish()
        except BaseException:
            output.abort()
            error.abort()
            raise
        row = self._batch
        self._hold.check(self._database.transact(lambda connection: batch_work.complete(connection, row, *files)))
        try:
            self._objects.delete_prefix(batch_prefix(row.id))
        except FaultError:
            log.warning("The objects of a batch that ended are left to the sweep.", batch_id=row.id)

    def _write(self, output: Sheet, error: Sheet) -> None:
        for index, (is_good, line) in enumerate(Answers(self._database, self._objects, self._batch).walk()):
            (output if is_good else error).add(line)
            if index % KEPT_EVERY_LINES == 0:
                self._hold.keep()
