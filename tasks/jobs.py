"""The shell around a hint: takes it from Celery to the loop, and shows Celery's watchers what became of the job.

Celery's own way from a message to a thread of its pool costs several times what the hint itself does, so the task
brings a way of its own (a `Strategy`, in Celery's words). Flower sees the same events: a task per hint, in the state
of the claimed job.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
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

    def __init__(self, message: Any, queue: str, consumer: Any) -> None:
        self.id: str = message.headers["id"]
        self.name = HINT_TASK
        self._message = message
        self._queue = queue
        self._consumer = consumer
        self._began_at = time.time()

    def begin(self, job_ids: Sequence[str]) -> None:
        """Say that jobs were claimed."""
        self._acknowledge()
        self._began_at = time.time()
        state.task_accepted(self)
        self._send("task-started", args=f"({self._queue!r},)", kwargs=repr({"jobs": list(job_ids)}))

    def end(self, outcomes: Sequence[Outcome]) -> None:
        """Say what became of them; a hint that found nothing shows only this."""
        self._acknowledge()
        state.task_ready(self)
        event, said = conclude(outcomes)
        self._send(event, **said, runtime=time.time() - self._began_at)

    def info(self, **_: object) -> JsonObject:
        """Return what `inspect active` lists."""
        return {"id": self.id, "name": self.name, "args": [self._queue], "kwargs": {}, "time_start": self._began_at}

    def _acknowledge(self) -> None:
        """Make room for the next message; whoever filled the last place must wake the consumer."""
        if not self._message.acknowledged:
            was_full = not self._message.channel.qos.can_consume()
            self._message.ack()
            if was_full:
                self._consumer.controller.wake()

    def _send(self, event: str, **said: Any) -> None:
        sender = self._consumer.event_dispatcher  # another one after each reconnect, none meanwhile
        if sender is not None:
            sender.send(event, uuid=self.id, name=self.name, **said)


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
    """Celery's strategy for hints: called in the consumer's thread with each message, never blocks it."""

    def __init__(self, task: RunJobs, _app: object, consumer: Any) -> None:
        self._task = task
        self._consumer = consumer

    def __call__(self, message: Any, *_: object) -> None:
        """Hand a hint to the loop; drop what is none."""
        try:
            (queue, *flags), _, _ = json.loads(message.body)
        except (ValueError, TypeError):
            log.warning("A message that is no hint was dropped.")
            message.ack()
            return
        shown = ShownHint(message, str(queue), self._consumer)
        self._task.loop.call_soon_threadsafe(self._task.begin, shown, str(queue), SUSPECTS in flags)


class RunJobs(Task):
    """`jobs.run`: the queue named by the first argument has work."""

    name = HINT_TASK
    ignore_result = True
    Strategy = HintHandler

    def __init__(self, execution: Execution, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._execution = execution
        self._carried: set[asyncio.Task[None]] = set()

    def begin(self, shown: ShownHint, queue: str, suspects: bool) -> None:  # noqa: FBT001 - a callback's arguments
        """Carry out a hint, in the loop."""
        task = self.loop.create_task(self._carry_out(shown, queue, suspects=suspects))
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)

    async def wait(self) -> None:
        """Wait until every hint that was taken is carried out."""
        while self._carried:
            await asyncio.wait(self._carried)

    async def _carry_out(self, shown: ShownHint, queue: str, *, suspects: bool) -> None:
        outcomes: list[Outcome] = []
        try:
            outcomes = await self._execution.on_hint(queue, suspects=suspects, on_claim=shown.begin)
        except Exception:
            log.exception("A hint came to nothing.")
        finally:
            shown.end(outcomes)
