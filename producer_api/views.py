"""A job as its caller sees it: the row, and what other stores know, in the shape of schemas.jobs.Job."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from producer_api.services import Services
from producer_api.together import Together
from schemas.base import JsonObject
from schemas.errors import FaultError
from schemas.events import Envelope, EventType
from schemas.jobs import QueueReason, Status
from storage import jobs
from storage.jobs import BORN, NewJob
from storage.rows import JobRow
from tasks.dispatch import Dispatcher, QueueLoad
from tasks.views import artifacts, plain

POSITION_LIMIT = 1000
LINK_AGES = 2
"""An answer that a client has kept is stale after this part of its links' life."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What SQL has of one job, read in one go."""

    row: JobRow
    input: str | None
    ahead: int | None


class Views:
    """Renders jobs."""

    def __init__(self, services: Services, dispatcher: Dispatcher) -> None:
        self._services = services
        self._dispatcher = dispatcher
        self._finding = Together(self._read)

    async def find(self, job_id: str, caller_id: str | None = None) -> Stored | None:
        """Read a job, of that caller only when one is named; many end at once, and who asks at once shares a look."""
        stored = await self._finding.ask(job_id)
        return stored if stored is not None and caller_id in (None, stored.row.caller_id) else None

    async def _read(self, job_ids: Sequence[str]) -> list[Stored | None]:
        return await self._services.database.aread(lambda connection: _read(connection, job_ids))

    async def render(self, stored: Stored, base: str) -> JsonObject:
        """Return the whole view of a job."""
        row = stored.row
        view = plain(row, base)
        if stored.input:
            view["input"] = from_json(stored.input)
        view["artifacts"] = self.artifacts(row)
        if row.status == Status.QUEUED:
            load = (await self._dispatcher.loads()).get(row.queue, QueueLoad())
            view["queue"] = queue_place(row, load, stored.ahead)
        elif row.status == Status.RUNNING:
            view["progress"] = await self._progress(row.id, base)
        return view

    async def render_new(self, job: NewJob, given: str, base: str) -> JsonObject:
        """Return the view of a job that was just admitted; its position is counted when it is asked for."""
        row = fresh_row(job)
        load = (await self._dispatcher.loads()).get(row.queue, QueueLoad())
        return plain(row, base) | {"input": from_json(given), "queue": queue_place(row, load, None)}

    async def render_page(self, rows: Sequence[JobRow], limit: int, base: str) -> JsonObject:
        """Return a list's page: what rows alone tell, no inputs; the one row too many says that there are more."""
        loads, data = await self._dispatcher.loads(), []
        links = await asyncio.to_thread(lambda: [self.artifacts(row) for row in rows[:limit]])  # signing takes a while
        for row, its_links in zip(rows, links, strict=False):
            view = plain(row, base) | {"artifacts": its_links}
            if row.status == Status.QUEUED:
                view["queue"] = queue_place(row, loads.get(row.queue, QueueLoad()), None)
            data.append(view)
        more = len(rows) > limit
        return {"object": "list", "data": data, "has_more": more, "next_cursor": data[-1]["id"] if more else None}

    def artifacts(self, row: JobRow) -> list[JsonObject]:
        """Return what a job produced, with fresh links."""
        return artifacts(row, self._services.objects, self._services.task_settings.presign_seconds)

    async def preview(self, job_id: str) -> Envelope | None:
        """Return the newest preview of a running job; nothing when there is none, or Redis is sick."""
        try:
            return await self._services.events.latest(job_id, EventType.PREVIEW)
        except FaultError:
            return None

    async def _progress(self, job_id: str, base: str) -> JsonObject | None:
        try:
            made = await self._services.events.latest(job_id, EventType.PROGRESS)
        except FaultError:
            return None
        shown = await self.preview(job_id)
        if made is None and shown is None:
            return None
        said = made.data if made else {}
        preview_url = f"{base}/v1/jobs/{job_id}/preview" if shown else None
        return {"fraction": said.get("fraction"), "stage": said.get("stage"), "preview_url": preview_url}


def _read(connection: Any, job_ids: Sequence[str]) -> list[Stored | None]:
    found = jobs.find_all(connection, sorted(set(job_ids)))
    stored = {job_id: Stored(row, given, _count_ahead(connection, row)) for job_id, (row, given) in found.items()}
    return [stored.get(job_id) for job_id in job_ids]


def _count_ahead(connection: Any, row: JobRow) -> int | None:
    if row.status != Status.QUEUED or row.run_at is not None:
        return None
    return jobs.count_ahead(connection, row.queue, row.rank, POSITION_LIMIT)


def fresh_row(job: NewJob) -> JobRow:
    """Return the row that a new job has just become."""
    known = {name: getattr(job, name) for name in NewJob.__slots__}
    return JobRow(**{**NEWBORN, **known, "queued_at": job.run_at or job.created_at})


NEWBORN: dict[str, Any] = {**dict.fromkeys(JobRow.__slots__), **BORN}


def queue_place(row: JobRow, load: QueueLoad, ahead: int | None) -> JsonObject:
    """Return where a waiting job stands, for how long, and why."""
    reason = waiting_reason(row, load)
    position = None if ahead is None else min(ahead + 1, POSITION_LIMIT)
    seconds = starts_in(load, ahead, reason)
    if row.run_at is not None:
        seconds = max(0.0, row.run_at - time.time())
    return {
        "name": row.queue,
        "position": position,
        "position_is_minimum": ahead is not None and ahead >= POSITION_LIMIT,
        "eta_seconds": None if seconds is None else round(seconds, 1),
        "reason": reason,
    }


def waiting_reason(row: JobRow, load: QueueLoad) -> QueueReason:
    """Return why a job waits: the first thing that would have to change."""
    if row.run_at is not None:
        return QueueReason.SCHEDULED
    if load.paused:
        return QueueReason.PAUSED
    if not load.states:
        return QueueReason.NO_WORKER
    return QueueReason.LOADING if load.is_loading else QueueReason.CAPACITY


def starts_in(load: QueueLoad, ahead: int | None, reason: QueueReason) -> float | None:
    """Estimate the seconds until a job starts, from those before it and how long one takes; None when unknown."""
    if ahead is None or reason is not QueueReason.CAPACITY or not load.slots:
        return None
    must_end = ahead + load.in_flight - load.slots + 1
    if must_end <= 0:
        return 0.0
    return None if load.run_ms is None else must_end * load.run_ms / 1000 / load.slots


def entity_tag(view: JsonObject, presign_seconds: int) -> str:
    """Return what changes when a job's view does; links count as the same until they have grown old."""
    lasting = {key: value for key, value in view.items() if key != "artifacts"}
    if view["artifacts"]:
        lasting["links"] = time.time() // (presign_seconds / LINK_AGES)
    return f'"{hashlib.sha256(repr(lasting).encode()).hexdigest()[:32]}"'
