"""The shell around a hint: takes it from Celery to a thread, and shows Celery's watchers what became of the job.

Celery's own way from message to thread costs several times what the hint itself does, so the task brings a way of its
own (a `Strategy`, in Celery's words). Flower sees the same events: a task per hint, in the state of the claimed job.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from celery import Task
from celery.worker import state

from schemas.base import JsonObject
from tasks.dispatch import HINT_TASK
from tasks.execution import Execution
from tasks.logs import get_logger
from tasks.orders import SUSPECTS
from tasks.outcome import End, Outcome

log = get_logger(__name__)


class ShownHint:
    """What Celery's watchers see of a hint: a request that runs from the claim on."""

    def __init__(self, hint_id: str, queue: str, consumer: Any) -> None:
        self.id = hint_id
        self.name = HINT_TASK
        self._queue = queue
        self._consumer = consumer
        self._began_at = time.time()

    def begin(self, job_ids: Sequence[str]) -> None:
        """Say that jobs were claimed."""
        self._began_at = time.time()
        state.task_accepted(self)
        self._send("task-started", args=f"({self._queue!r},)", kwargs=repr({"jobs": list(job_ids)}))

    def end(self, outcomes: Sequence[Outcome]) -> None:
        """Say what became of them; a hint that found nothing shows only this."""
        state.task_ready(self)
        self._send(*conclude(outcomes), runtime=time.time() - self._began_at)

    def info(self, **_: object) -> JsonObject:
        """Return what `inspect active` lists."""
        return {"id": self.id, "name": self.name, "args": [self._queue], "kwargs": {}, "time_start": self._began_at}

    def _send(self, event: str, said: JsonObject | None = None, **fields: Any) -> None:
        sender = self._consumer.event_dispatcher  # another one after each reconnect, none meanwhile
        if sender is not None:
            sender.send(event, uuid=self.id, name=self.name, **(said or {}), **fields)


def conclude(outcomes: Sequence[Outcome]) -> tuple[str, JsonObject]:
    """Return the event that tells the state of the claimed jobs; of a group the worst counts."""
    said = "; ".join(str(outcome) for outcome in outcomes) or "nothing queued"
    ends = {outcome.end for outcome in outcomes}
    if End.FAILED in ends:
        return "task-failed", {"exception": said, "traceback": ""}
    if ends & {End.REQUEUED, End.LOST}:
        return "task-retried", {"exception": said, "traceback": ""}
    return "task-succeeded", {"result": said}


class HintHandler:
    """Celery's strategy for hints: called in the consumer's loop with each message, never blocks it."""

    def __init__(self, task: RunJobs, _app: object, consumer: Any) -> None:
        self._execution = task.execution
        self._consumer = consumer

    def __call__(self, message: Any, *_: object) -> None:
        """Hand a hint to a thread; drop what is none."""
        try:
            (queue, *flags), _, _ = json.loads(message.body)
            carry_out = partial(self._carry_out, message, str(queue), SUSPECTS in flags)
        except (ValueError, TypeError):
            log.warning("A message that is no hint was dropped.")
            message.ack()
        else:
            self._consumer.pool.executor.submit(carry_out)

    def _carry_out(self, message: Any, queue: str, suspects: bool) -> None:  # noqa: FBT001 - positional for partial
        self._acknowledge(message)
        shown = ShownHint(message.headers["id"], queue, self._consumer)
        outcomes: list[Outcome] = []
        try:
            outcomes = self._execution.on_hint(queue, suspects=suspects, on_claim=shown.begin)
        except Exception:
            log.exception("A hint came to nothing.")
        finally:
            shown.end(outcomes)

    def _acknowledge(self, message: Any) -> None:
        """Make room for the next message; whoever filled the last place must wake the consumer."""
        was_full = not message.channel.qos.can_consume()
        message.ack()
        if was_full:
            self._consumer.controller.wake()


class RunJobs(Task):
    """`jobs.run`: the queue named by the first argument has work."""

    name = HINT_TASK
    ignore_result = True
    Strategy = HintHandler

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
