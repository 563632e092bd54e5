"""The shell around a hint: Celery calls it, Flower shows what it returns or raises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Task
from celery.exceptions import Retry

from tasks.dispatch import HINT_TASK
from tasks.execution import Execution
from tasks.orders import SUSPECTS
from tasks.outcome import End, Outcome


class JobFailed(Exception):  # noqa: N818 - Flower shows the name: it reads as a state
    """The claimed job ended `failed`; the message says which and why."""


class JobRequeued(Exception):  # noqa: N818 - as above
    """The claimed job went back to its queue; the message says which and why."""


class RunJobs(Task):
    """`jobs.run`: the queue named by the first argument has work."""

    name = HINT_TASK
    ignore_result = True
    throws = (JobFailed,)

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def run(self, queue: str, flags: Any = None, *_: object) -> str:
        """Run what the queue has; end in the state of the job that was claimed."""
        return conclude(self._execution.on_hint(queue, suspects=flags == SUSPECTS))


def conclude(outcomes: Sequence[Outcome]) -> str:
    """Return, or raise, what makes Celery's state that of the jobs."""
    said = "; ".join(str(outcome) for outcome in outcomes) or "nothing queued"
    ends = {outcome.end for outcome in outcomes}
    if End.FAILED in ends:
        raise JobFailed(said)
    if ends & {End.REQUEUED, End.LOST}:
        raise Retry(said, JobRequeued(said))  # Flower shows the inner one
    return said
