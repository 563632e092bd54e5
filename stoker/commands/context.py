"""What every command gets: what was typed, a client, and the screen."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stoker.client import Job, Stoker, StokerError
from stoker.commands.screen import Screen

LONG_PATIENCE_SECONDS = 60.0


class StoppedError(StokerError):
    """Somebody pressed Ctrl-C; the message says what goes on without them."""


@dataclass(frozen=True)
class Context:
    """One command that is being run."""

    typed: Namespace
    client: Stoker
    screen: Screen

    @property
    def wants_json(self) -> bool:
        """Whether a script is reading."""
        return bool(getattr(self.typed, "json", False))


def judge(screen: Screen, job: Job) -> int:
    """Return the exit code of a job that has ended; why it did not succeed is said on standard error."""
    if job.has_succeeded:
        return 0
    why = f": {job.error.message} ({job.error.code})" if job.error else "."
    screen.note(f"{job.id} {job.status}{why}")
    return 1


@contextmanager
def leaving(job_id: str) -> Iterator[None]:
    """Say after Ctrl-C that the job does not stop with us."""
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError(
            f"Stopped watching; {job_id} goes on.\n"
            f"  watch it again: stoker watch {job_id}\n"
            f"  cancel it:      stoker cancel {job_id}"
        ) from None
