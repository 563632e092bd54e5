"""One attempt of one job, from its claim to its end: input, engine, bytes, row, in this order."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from dataclasses import dataclass
from enum import Enum, auto

from pydantic_core import to_json as render

from schemas.base import JsonObject
from schemas.errors import EngineDeadError, FaultError, StokerError
from schemas.events import EventType, Finished, Produced
from schemas.jobs import Kind, Status
from storage import claims, jobs
from storage.claims import Ending, Release
from storage.database import Database
from storage.objects.port import ObjectStore, object_key
from storage.rows import ClaimedJob, to_json
from tasks.gate import Place
from tasks.logs import get_logger
from tasks.outcome import End, Outcome
from tasks.patience import insist
from tasks.performance import Performance, Stage
from tasks.retry import as_job_error, delay_before_next

INLINE_CHARACTERS = 16 * 1024
"""A longer output is only in the object store."""
OUTPUT_NAME = "result.json"

log = get_logger(__name__)


class Reason(Enum):
    """Why an attempt is stopped from outside."""

    CANCELED = auto()
    HANDED_BACK = auto()
    REPLACED = auto()


class Stopped(Exception):  # noqa: N818 - it ends an attempt, but it is no error
    """The attempt is to end here; its reason says how."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What an attempt needs of the process that it runs in."""

    database: Database
    objects: ObjectStore
    stage: Stage
    device: str


class Attempt:
    """What a worker holds after a claim. `run` blocks a thread; `stop` may come from any other."""

    def __init__(self, job: ClaimedJob, place: Place, workplace: Workplace, worker_id: str) -> None:
        self.job = job
        self.place = place
        self.worker_id = worker_id
        self.task: asyncio.Task[Performance] | None = None  # while the engine runs it
        self.performance: Performance | None = None
        self._workplace = workplace
        self._deadline = time.monotonic() + job.timeout_seconds
        self._reason: Reason | None = None
        self._stopped = threading.Event()
        self._keys: list[str] = []  # of the objects that were written

    def run(self) -> Outcome:
        """Run the job to an end, or give it back."""
        try:
            return self._run()
        except Stopped:
            return self._withdraw()

    def _run(self) -> Outcome:
        try:
            return self._succeed()
        except EngineDeadError:
            return Outcome(self.job.id, End.LOST)  # with its worker, in a moment
        except Exception as error:  # noqa: BLE001 - whatever an engine raises ends its own job only
            return self._give_up() if self._stopped.is_set() else self._fail(error)

    def stop(self, reason: Reason) -> None:
        """End the attempt as soon as possible, wherever it is; the first reason counts, but REPLACED beats all."""
        if self._reason is None or reason is Reason.REPLACED:
            self._reason = reason
        self._stopped.set()
        self._workplace.stage.abort(self)

    def check(self) -> None:
        """Raise Stopped when somebody stopped this attempt."""
        if self._stopped.is_set():
            raise Stopped

    def seconds_left(self) -> float:
        """Return what is left of the job's timeout."""
        return self._deadline - time.monotonic()

    def _wait(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Stopped

    def _succeed(self) -> Outcome:
        performance = self._workplace.stage.perform(self, self._read_input())
        finished = performance.finished or Finished({})
        output = render(finished.output, inf_nan_mode="null").decode()  # thousands of vectors: five times json's pace
        artifacts = [self._store(file) for file in self._files(performance, output)]
        ending = Ending(
            self.job.id,
            self.job.attempt,
            Status.SUCCEEDED,
            output=output if len(output) <= INLINE_CHARACTERS else None,
            artifacts=to_json(artifacts),
            usage=to_json(finished.usage),
            metrics=to_json(self._metrics()),
        )
        return self._finish(ending)

    def _read_input(self) -> JsonObject:
        text, key = self.job.input, self.job.object_key
        if text is None and key is not None:
            content = insist(lambda: self._workplace.objects.get(key), self._wait, self._deadline)
            return self.job.read_input(content.decode())
        return self.job.read_input(text or "{}")

    def _files(self, performance: Performance, output: str) -> list[Produced]:
        if self.job.kind == Kind.IMAGE:
            return performance.produced
        return [Produced(OUTPUT_NAME, "application/json", output.encode()), *performance.produced]

    def _store(self, file: Produced) -> JsonObject:
        key = object_key(self.job.id, self.job.attempt, file.name)
        self._keys.append(key)
        objects = self._workplace.objects
        insist(lambda: objects.put(key, file.content, file.content_type), self._wait, self._deadline)
        described = {"name": file.name, "content_type": file.content_type, "bytes": len(file.content)}
        if file.name != OUTPUT_NAME:  # readers get the output itself in a moment
            self._tell(EventType.ARTIFACT, described)
        return {**described, "key": key, "sha256": hashlib.sha256(file.content).hexdigest()}

    def _finish(self, ending: Ending) -> Outcome:
        """Write the end; whoever was replaced takes its objects away again."""
        if not self._write_end(ending):
            return self._withdraw()
        error = json.loads(ending.error) if ending.error else None
        self._tell(EventType.FINISHED, {"status": ending.status.value, "error": error}, urgent=True)
        return Outcome(self.job.id, End(ending.status.value), error["message"] if error else None)

    def _write_end(self, ending: Ending) -> bool:
        was_unsure = False

        def write() -> bool:
            nonlocal was_unsure
            try:
                return self._workplace.database.write(claims.finish, ending)
            except FaultError:
                was_unsure = True  # its commit may have happened all the same
                raise

        written = insist(write, self._wait_unless_replaced)
        if not written and was_unsure:
            row = self._workplace.database.read(lambda connection: jobs.find(connection, self.job.id))
            written = row is not None and (row.attempt, row.status, row.artifacts) == (
                ending.attempt,
                ending.status.value,
                ending.artifacts,
            )
        return written

    def _wait_unless_replaced(self, seconds: float) -> None:
        """Pause; a finished result is only given up when it is void."""
        if self._reason is Reason.REPLACED:
            raise Stopped
        time.sleep(seconds)

    def _give_up(self) -> Outcome:
        if self._reason is Reason.CANCELED:
            return self._finish(
                Ending(self.job.id, self.job.attempt, Status.CANCELED, metrics=to_json(self._metrics()))
            )
        if self._reason is Reason.HANDED_BACK:
            return self._release(Release(self.job.id, self.job.attempt))
        return self._withdraw()

    def _fail(self, raised: Exception) -> Outcome:
        error = as_job_error(raised)
        if error is not raised:
            log.error("An engine raised what it should not.", job_id=self.job.id, exc_info=raised)
        delay = delay_before_next(error, self.job.errors, self.job.max_attempts)
        if delay is not None:
            return self._release(
                Release(self.job.id, self.job.attempt, run_again_in_seconds=delay, counts_as_error=True), error
            )
        failure = to_json(error.as_job_error())
        return self._finish(
            Ending(self.job.id, self.job.attempt, Status.FAILED, error=failure, metrics=to_json(self._metrics()))
        )

    def _release(self, release: Release, error: StokerError | None = None) -> Outcome:
        database = self._workplace.database
        status = insist(lambda: database.write(claims.release, release), self._wait_unless_replaced)
        self._delete_objects()
        if status == Status.CANCELED:
            self._tell(EventType.FINISHED, {"status": status, "error": None}, urgent=True)
            return Outcome(self.job.id, End.CANCELED)
        return Outcome(self.job.id, End.REQUEUED if status else End.REPLACED, error.message if error else None)

    def _metrics(self) -> JsonObject:
        """Return what the row says about speed; ttft_ms counts from the submit, as a caller would."""
        job, done = self.job, self.performance
        queue_ms = round((job.started_at - job.queued_at) * 1000, 1)
        metrics = {
            "queue_ms": queue_ms,
            "device": self._workplace.device,
            "worker": self.worker_id,
            "attempt": job.attempt,
        }
        if done is None:
            return metrics
        seconds = done.ended_at - done.began_at
        metrics["run_ms"] = round(seconds * 1000, 1)
        if done.first_token_at is not None:
            metrics["ttft_ms"] = round(queue_ms + (done.first_token_at - done.began_at) * 1000, 1)
        if done.finished is None:
            return metrics
        if seconds > 0 and "completion_tokens" in done.finished.usage:
            metrics["tokens_per_second"] = round(done.finished.usage["completion_tokens"] / seconds, 1)
        return metrics | done.finished.metrics

    def _withdraw(self) -> Outcome:
        self._delete_objects()
        return Outcome(self.job.id, End.REPLACED)

    def _delete_objects(self) -> None:
        if self._keys:
            try:
                self._workplace.objects.delete(self._keys)
            except FaultError:
                log.warning("Objects of a void attempt are left until the job is erased.", job_id=self.job.id)

    def _tell(self, event_type: EventType, data: JsonObject, *, urgent: bool = False) -> None:
        stage = self._workplace.stage
        stage.loop.call_soon_threadsafe(self._tell_in_loop, event_type, data, urgent)

    def _tell_in_loop(self, event_type: EventType, data: JsonObject, urgent: bool) -> None:  # noqa: FBT001 - a callback
        writer = self._workplace.stage.writer
        story = self.performance.story if self.performance else writer.open(self.job.id, self.job.attempt)
        story.say(event_type, data, urgent=urgent)
