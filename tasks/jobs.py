"""The shell around the execution: takes hints from Celery, and shows Celery's watchers what becomes of the jobs.

Celery's own way from a message to a thread of its pool costs several times what a hint does, so the task brings a way
of its own (a `Strategy`, in Celery's words). Flower sees the same events: a task per attempt, in the state of its job.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from celery import Task
from celery.worker import state

from schemas.base import JsonObject
from storage.rows import ClaimedJob
from tasks.dispatch import HINT_TASK
from tasks.execution import Execution
from tasks.logs import get_logger
from tasks.orders import SUSPECTS
from tasks.outcome import End, Outcome

RECEIVED, STARTED = "task-received", "task-started"
SEEN_LIMIT = 100_000
"""So many events wait while nobody can be told; then the oldest are forgotten."""

log = get_logger(__name__)


class ShownAttempt:
    """An attempt as Celery's `inspect active` lists it."""

    def __init__(self, job: ClaimedJob) -> None:
        self.id = shown_id(job)
        self.name = HINT_TASK
        self._queue = job.queue
        self._started_at = job.started_at

    def described(self) -> JsonObject:
        """Return what every event says of it; Flower lists the newest first by the time of `received`."""
        said = {"uuid": self.id, "name": HINT_TASK, "args": f"({self._queue!r},)", "kwargs": "{}"}
        return said | {"received": self._started_at, "started": self._started_at}

    def info(self, **_: object) -> JsonObject:
        """Return what is listed."""
        return {"id": self.id, "name": self.name, "args": [self._queue], "kwargs": {}, "time_start": self._started_at}


def shown_id(job: ClaimedJob) -> str:
    """Return the id under which Celery's watchers know an attempt."""
    return f"{job.id}-{job.attempt}"


def conclude(outcome: Outcome) -> tuple[str, JsonObject]:
    """Return the event that tells the state of an ended attempt."""
    if outcome.end is End.FAILED:
        return "task-failed", {"exception": str(outcome), "traceback": ""}
    if outcome.end in (End.REQUEUED, End.LOST):
        return "task-retried", {"exception": str(outcome), "traceback": ""}
    return "task-succeeded", {"result": str(outcome)}


@dataclass(frozen=True, slots=True)
class Seen:
    """What is to be told of an attempt, and since when it is true."""

    shown: ShownAttempt
    event: str
    said: JsonObject
    at: float


class CeleryWatcher:
    """Tells Celery's events about attempts, from time to time: those that are over by then in one event, not two."""

    def __init__(self) -> None:
        self.consumer: Any = None
        self._shown: dict[str, ShownAttempt] = {}
        self._seen: deque[Seen] = deque(maxlen=SEEN_LIMIT)

    def begin(self, job: ClaimedJob) -> None:
        """See an attempt begin."""
        shown = self._shown[shown_id(job)] = ShownAttempt(job)
        state.task_accepted(shown)
        self._seen.append(Seen(shown, STARTED, {}, time.time()))

    def end(self, job: ClaimedJob, outcome: Outcome, seconds: float) -> None:
        """See how it ended."""
        shown = self._shown.pop(shown_id(job))
        state.task_ready(shown)
        event, said = conclude(outcome)
        self._seen.append(Seen(shown, event, said | {"runtime": seconds}, time.time()))

    def tell(self) -> None:
        """Hand what was seen to Celery, which sends it; called in the consumer's thread, the others in the loop's."""
        news: dict[str, Seen] = {}
        while self._seen:
            seen = self._seen.popleft()
            news[seen.shown.id] = seen
        sender = self.consumer.event_dispatcher if self.consumer else None  # another after each reconnect, or none
        if sender is not None:
            for seen in news.values():
                if seen.event == STARTED:  # Flower counts what is received and not started yet
                    sender.send(RECEIVED, timestamp=seen.at, **seen.shown.described())
                sender.send(seen.event, timestamp=seen.at, **seen.shown.described(), **seen.said)


class HintHandler:
    """Celery's strategy for hints: called in the consumer's thread with each message, never blocks it."""

    def __init__(self, task: RunJobs, _app: object, consumer: Any) -> None:
        self._task = task
        task.watcher.consumer = consumer

    def __call__(self, message: Any, *_: object) -> None:
        """Pass a hint on to the loop; drop what is none. A hint that is lost from here on is sent again."""
        message.ack()
        try:
            (queue, *flags), _, _ = json.loads(message.body)
        except (ValueError, TypeError):
            queue, flags = None, []
        if queue == self._task.queue:
            self._task.loop.call_soon_threadsafe(self._task.on_suspects if SUSPECTS in flags else self._task.on_hint)
        else:
            log.warning("A message that is no hint for this worker was dropped.")


class RunJobs(Task):
    """`jobs.run`: the queue named by the first argument has work."""

    name = HINT_TASK
    ignore_result = True
    Strategy = HintHandler

    def __init__(
        self, execution: Execution, watcher: CeleryWatcher, loop: asyncio.AbstractEventLoop, queue: str
    ) -> None:
        self.watcher = watcher
        self.loop = loop
        self.queue = queue
        self.on_hint = execution.on_hint
        self.on_suspects = execution.on_suspects
