"""Streams at the doors: a job is followed while somebody listens, and canceled when nobody does any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from time import perf_counter
from typing import Protocol

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from producer_api.admission import Accepted
from producer_api.doors import DELETED, output_of, take_seat, until_left, what_became_of
from producer_api.edge import note_wait, request_id_of
from producer_api.events import follow
from producer_api.jobs import abandon
from producer_api.state import api_of
from producer_api.views import fresh_row
from schemas.base import JsonObject
from schemas.errors import DoorTimeoutError, FaultError, GoneError, InternalError, StokerError, UnavailableError
from schemas.events import Envelope, EventType
from schemas.jobs import Status
from schemas.refusals import as_public
from storage.rows import JobRow
from tasks.logs import get_logger

HOLD_SECONDS = 10.0
"""So long an answer is held back for its first words: until then whatever goes wrong has a status of its own."""
HEARTBEAT = b": waiting\n\n"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

log = get_logger(__name__)


class Telling(Protocol):
    """How a job's events are told in a door's own words."""

    def begin(self) -> bytes:
        """Return what comes before everything else."""

    def hear(self, news: Iterable[Envelope]) -> bytes:
        """Return what is new in a job's next events; an error ends the stream."""

    def finish(self, row: JobRow, output: JsonObject) -> bytes:
        """Return what is still to be said when the job has succeeded."""


class DoorStream(Response):
    """One job's answer, while it is made."""

    media_type = "text/event-stream"

    def __init__(self, request: Request, accepted: Accepted, telling: Telling) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._request = request
        self._api = api_of(request)
        self._accepted = accepted
        self._seat = take_seat(request, accepted)
        self._telling = telling
        self._said: list[bytes] = []
        self._error: StokerError | None = None
        self._is_sending = self._is_over = self._has_left = self._has_ended = self._is_last = False
        self._news = asyncio.Event()
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._watch_client())]

    async def hold(self) -> bool:
        """Wait for the first words, for a while; raise what went wrong instead, return False when the client left."""
        began_at = perf_counter()
        try:
            async with asyncio.timeout(HOLD_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return True
        except asyncio.CancelledError:
            await asyncio.shield(self._let_go())
            raise
        finally:
            note_wait(self._request.scope, perf_counter() - began_at)
        if self._error is not None or self._has_left:
            await self._let_go()
        if self._error is not None:
            raise self._error
        return not self._has_left

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Send what is told, until there is no more or nobody to hear it."""
        self._is_sending = True

        async def write(body: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more})

        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await write(self._telling.begin())
            while not (self._has_left or (self._is_over and not self._said)):
                await self._news.wait()
                self._news.clear()
                said, self._said = self._said, []
                if said:
                    await write(b"".join(said))
            if self._error is not None:
                error = as_public(self._error).as_wire_error(request_id_of(scope))
                await write(b"data: %b\n\n" % to_json(error))
            if not self._has_left:
                await write(b"", more=False)
        finally:
            await asyncio.shield(self._let_go())

    def _say(self, words: bytes) -> None:
        if words:
            self._said.append(words)
            self._news.set()

    async def _watch_client(self) -> None:
        await until_left(self._request)
        self._has_left = True
        self._news.set()

    async def _follow(self) -> None:
        """Tell the job to its end, however that comes."""
        try:
            async with asyncio.timeout(self._api.services.settings.door_timeout_seconds):
                await self._tell()
        except TimeoutError:
            self._error = DoorTimeoutError()
        except StokerError as error:
            self._error = error
        except Exception:
            log.exception("A stream failed in a way nobody foresaw.", job_id=self._accepted.job_id)
            self._error = InternalError()
        if self._error is not None:
            await self._abandon()  # not only when the client has taken all that was said: it may never do so
        self._is_over = True
        self._news.set()

    async def _tell(self) -> None:
        job = self._accepted.job
        row = fresh_row(job) if job is not None else await self._row()
        async with aclosing(follow(self._api, row, None)) as following:
            async for news in following:
                if news:
                    self._say(self._telling.hear(news))
                elif self._is_sending:
                    self._say(HEARTBEAT)
                if news and news[-1].type is EventType.FINISHED:
                    self._has_ended = True
                    await self._tell_end()
                    return
        if self._api.watch.closing:
            raise UnavailableError("This server is about to stop; send the request again.")
        raise GoneError(DELETED)

    async def _tell_end(self) -> None:
        row = await self._row()
        if row.status != Status.SUCCEEDED:
            raise what_became_of(row)
        self._say(self._telling.finish(row, from_json(await output_of(self._api, row))))

    async def _row(self) -> JobRow:
        stored = await self._api.views.find(self._accepted.job_id)
        if stored is None:
            raise GoneError(DELETED)
        return stored.row

    async def _let_go(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._abandon()

    async def _abandon(self) -> None:
        """Cancel a job that has not ended, unless somebody else waits for it, too."""
        self._is_last = self._seat.leave() or self._is_last
        if self._has_ended or not self._is_last:
            return
        try:
            await abandon(self._api, self._accepted)
            self._has_ended = True
        except FaultError as fault:
            log.warning("A job that nobody waits for could not be canceled.", fault=repr(fault))
