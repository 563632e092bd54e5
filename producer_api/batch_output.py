"""What a batch has given so far: from where lines that ended were stored, or from its file when it has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from producer_api.files import Files
from producer_api.services import Services
from schemas.batches import BATCH_ENDS
from schemas.errors import GoneError, NotFoundError, UnavailableError
from storage import batches
from storage.batches import BatchRow
from storage.files import FileRow
from tasks.batches.answers import Answers

PIECE_BYTES = 256 * 2**10
KEPT_BYTES = 2 * 2**20
"""Each reader keeps so much of what was stored together, for neighbours that come soon; there may be many readers."""
ENDED = "The batch has just ended, and its answers are in a file now; ask again."


class BatchOutput:
    """Reads the answers to batches."""

    def __init__(self, services: Services, own: Files) -> None:
        self._services = services
        self._files = own

    async def find_file(self, row: BatchRow, *, errors: bool) -> FileRow | None:
        """Return the file of a batch that has ended; nothing when no line of it belongs there."""
        file_id = row.error_file_id if errors else row.output_file_id
        if file_id is None:
            return None
        try:
            return await self._files.find(file_id, row.caller_id)
        except NotFoundError:
            raise GoneError("The file was deleted, or kept until its time was over; run the batch again.") from None

    async def open(self, row: BatchRow, *, errors: bool) -> AsyncIterator[bytes]:
        """Begin to read the lines that have ended, in the order of the input; few of them are in memory at once."""
        reading = self._read(row, errors=errors)
        first = await anext(reading, b"")  # what goes wrong until here has a status of its own

        async def go_on() -> AsyncIterator[bytes]:
            yield first
            async for piece in reading:
                yield piece

        return go_on()

    async def _read(self, row: BatchRow, *, errors: bool) -> AsyncIterator[bytes]:
        """Yield each piece when it is known whether it is the last: only a whole answer has an end."""
        answers = Answers(self._services.database, self._services.objects, row, KEPT_BYTES)
        pieces = _pieces(answers, errors=errors)
        piece = await self._files.run(next, pieces, b"")
        while piece:
            following = await self._files.run(next, pieces, b"")
            if not following:
                await self._check_not_ended(row)
            yield piece
            piece = following
        await self._check_not_ended(row)

    async def _check_not_ended(self, row: BatchRow) -> None:
        now = await self._services.database.aread(lambda c: batches.find(c, row.id))
        if now is None or now.status in BATCH_ENDS:  # its lines may have been gone before they were read
            raise UnavailableError(ENDED)


def _pieces(answers: Answers, *, errors: bool) -> Iterator[bytes]:
    """Yield the lines in pieces that are worth sending."""
    waiting = bytearray()
    try:
        for is_good, line in answers.walk():
            if is_good is not errors:
                waiting += line
            if len(waiting) >= PIECE_BYTES:
                yield bytes(waiting)
                waiting.clear()
    except NotFoundError:
        raise UnavailableError(ENDED) from None
    if waiting:
        yield bytes(waiting)
