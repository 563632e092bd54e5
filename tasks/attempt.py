"""One attempt of one job, from its claim to its end: input, engine, bytes, row, in this order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import TypeVar

from pydantic_core import to_json as render

from schemas.base import JsonObject
from schemas.errors import EngineDeadError, FaultError, JobTimeoutError, StokerError
from schemas.events import EventType, Produced, rows_of
from schemas.jobs import Kind, Status
from storage import claims, jobs
from storage.claims import Ending, Release
from storage.database import Database
from storage.objects.port import ObjectStore, object_key
from storage.rows import ClaimedJob, from_json, to_json
from tasks.engine import Engine, EngineRequest
from tasks.event_writer import EventWriter
from tasks.gate import Place
from tasks.logs import get_logger
from tasks.outcome import End, Outcome
from tasks.patience import insist
from tasks.performance import Performance
from tasks.retry import as_job_error, delay_before_next

INLINE_BYTES = 16 * 1024
"""A longer output is only in the object store."""
OUTPUT_NAME = "result.json"

Result = TypeVar("Result")
log = get_logger(__name__)


class Reason(Enum):
    """Why an attempt is stopped from outside."""

    CANCELED = auto()
    HANDED_BACK = auto()
    REPLACED = auto()


class ReplacedError(Exception):
    """The job belongs to somebody else by now: whatever this attempt still wants to write is void."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What an attempt needs of the process that it runs in; `threads` are for what blocks."""

    database: Database
    objects: ObjectStore
    engine: Engine
    writer: EventWriter
    threads: ThreadPoolExecutor
    device: str


class Attempt:
    """What a worker holds after a claim. It lives in the engine's loop."""

    def __init__(self, job: ClaimedJob, place: Place, workplace: Workplace, worker_id: str) -> None:
        self.job = job
        self._place = place
        self._workplace = workplace
        self._worker_id = worker_id
        self._story = workplace.writer.open(job.id, job.attempt)
        self._performance = Performance(self._story)
        self._limit = asyncio.timeout(job.timeout_seconds)  # moved to now by whoever stops the attempt
        self._is_limited = False
        self._reason: Reason | None = None
        self._keys: list[str] = []  # of the objects that were written
        self._usage: JsonObject = {}  # what the engine took so far

    async def run(self) -> Outcome:
        """Run the job to an end, or give it back."""
        try:
            return await self._run()
        except ReplacedError:
            await self._delete_objects()
            return Outcome(self.job.id, End.REPLACED)

    @property
    def usage(self) -> JsonObject:
        """Return what it took so far."""
        finished = self._performance.finished
        return finished.usage if finished else self._usage

    def measure(self) -> JsonObject:
        """Return what the row says about speed."""
        job = self.job
        queue_ms = round((job.started_at - job.queued_at) * 1000, 1)
        about = {"device": self._workplace.device, "worker": self._worker_id, "attempt": job.attempt}
        tokens = self.usage.get("completion_tokens", 0)
        return {"queue_ms": queue_ms, **about, **self._performance.measure(queue_ms, tokens)}

    def stop(self, reason: Reason) -> None:
        """End the attempt as soon as possible, wherever it is; the first reason counts, but REPLACED beats all."""
        if self._reason is None or reason is Reason.REPLACED:
            self._reason = reason
        if self._is_limited and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())

    async def _run(self) -> Outcome:
        try:
            async with self._limit:
                self._is_limited = True
                try:
                    ending = await self._succeed()
                finally:
                    self._is_limited = False
        except EngineDeadError:
            return Outcome(self.job.id, End.LOST)  # with its worker, in a moment
        except Exception as error:  # noqa: BLE001 - whatever an engine raises ends its own job only
            if self._reason is not None:
                return await self._give_up(self._reason)
            return await self._fail(JobTimeoutError() if self._limit.expired() else error)
        return await self._finish(ending)

    async def _succeed(self) -> Ending:
        given = await self._read_input()
        self._story.say(EventType.STARTED if self.job.attempt == 1 else EventType.RESTARTED, {})
        job, audience = self.job, self._story.audience
        request = EngineRequest(job.id, job.attempt, job.kind, given, self._usage, audience, job.rank)
        finished = await self._performance.run(self._workplace.engine, request, self._place)
        output = render(finished.output, inf_nan_mode="null", fallback=rows_of)  # json takes five times as long
        artifacts = [await self._store(file) for file in self._files(output)]
        return Ending(
            self.job.id,
            self.job.attempt,
            Status.SUCCEEDED,
            output=output.decode() if len(output) <= INLINE_BYTES else None,
            artifacts=to_json(artifacts),
            usage=to_json(finished.usage),
            metrics=to_json(self.measure()),
        )

    async def _read_input(self) -> JsonObject:
        text, key = self.job.input, self.job.object_key
        if text is None and key is not None:
            text = (await insist(lambda: self._in_thread(lambda: self._workplace.objects.get(key)))).decode()
        given: JsonObject = from_json(text) or {}
        return given

    def _files(self, output: bytes) -> list[Produced]:
        if self.job.kind == Kind.IMAGE:
            return self._performance.produced
        return [Produced(OUTPUT_NAME, "application/json", output), *self._performance.produced]

    async def _store(self, file: Produced) -> JsonObject:
        key = object_key(self.job.id, self.job.attempt, file.name)
        self._keys.append(key)
        sha256 = await insist(partial(self._workplace.objects.aput, key, file.content, file.content_type))
        described = {"name": file.name, "content_type": file.content_type, "bytes": len(file.content)}
        if file.name != OUTPUT_NAME:  # readers get the output itself in a moment
            self._story.say(EventType.ARTIFACT, described)
        return {**described, "key": key, "sha256": sha256}

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._workplace.threads, work)

    async def _finish(self, ending: Ending) -> Outcome:
        """Write the end; readers hear of it when it is true."""
        if not await self._write_end(ending):
            raise ReplacedError
        error = json.loads(ending.error) if ending.error else None
        self._story.say(EventType.FINISHED, {"status": ending.status.value, "error": error}, urgent=True)
        return Outcome(self.job.id, End(ending.status.value), error["message"] if error else None)

    async def _write_end(self, ending: Ending) -> bool:
        is_unsure = False

        async def write() -> bool:
            nonlocal is_unsure
            try:
                return await self._workplace.database.awrite(claims.finish, ending)
            except FaultError:
                is_unsure = True  # its commit may have happened all the same
                raise

        written = await insist(write, self._check_not_replaced)
        return written or (is_unsure and await insist(lambda: self._is_written(ending), self._check_not_replaced))

    async def _is_written(self, ending: Ending) -> bool:
        row = await self._workplace.database.aread(lambda connection: jobs.find(connection, ending.job_id))
        wanted = (ending.attempt, ending.status.value, ending.artifacts)
        return row is not None and (row.attempt, row.status, row.artifacts) == wanted

    def _check_not_replaced(self) -> None:
        """Let a finished result be given up only when it is void."""
        if self._reason is Reason.REPLACED:
            raise ReplacedError

    async def _give_up(self, reason: Reason) -> Outcome:
        if reason is Reason.CANCELED:
            return await self._finish(self._ending(Status.CANCELED))
        if reason is Reason.HANDED_BACK:
            return await self._release(Release(self.job.id, self.job.attempt))
        raise ReplacedError

    async def _fail(self, raised: Exception) -> Outcome:
        error = as_job_error(raised)
        if error is not raised:
            log.error("An engine raised what it should not.", job_id=self.job.id, exc_info=raised)
        delay = delay_before_next(error, self.job.errors, self.job.max_attempts)
        if delay is None:
            return await self._finish(self._ending(Status.FAILED, error))
        release = Release(self.job.id, self.job.attempt, run_again_in_seconds=delay, counts_as_error=True)
        return await self._release(release, error)

    async def _release(self, release: Release, error: StokerError | None = None) -> Outcome:
        database = self._workplace.database
        status = await insist(lambda: database.awrite(claims.release, release), self._check_not_replaced)
        if status is None:
            raise ReplacedError
        await self._delete_objects()
        if status == Status.CANCELED:
            self._story.say(EventType.FINISHED, {"status": status, "error": None}, urgent=True)
            return Outcome(self.job.id, End.CANCELED)
        return Outcome(self.job.id, End.REQUEUED, error.message if error else None)

    def _ending(self, status: Status, error: StokerError | None = None) -> Ending:
        said = to_json(error.as_job_error()) if error else None
        usage = to_json(self._usage) if self._usage else None
        return Ending(self.job.id, self.job.attempt, status, error=said, usage=usage, metrics=to_json(self.measure()))

    async def _delete_objects(self) -> None:
        if self._keys:
            try:
                await self._in_thread(lambda: self._workplace.objects.delete(self._keys))
            except FaultError:
                log.warning("Objects of a void attempt are left until the job is erased.", job_id=self.job.id)
