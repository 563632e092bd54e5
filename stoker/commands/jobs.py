"""Commands about jobs that exist: look, list, cancel, retry, delete, download."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from stoker.client import Job, StokerError
from stoker.commands.context import Context, judge
from stoker.commands.given import UsageError
from stoker.commands.outline import page_of
from stoker.commands.words import age, duration, size

HEADERS = ("JOB", "STATUS", "AGE", "WAITED", "RAN", "MODEL")


def get(context: Context) -> int:
    """Show one job."""
    _show(context, context.client.get(context.typed.job))
    return 0


def jobs(context: Context) -> int:
    """List jobs."""
    typed = context.typed
    if typed.limit < 1:
        raise UsageError(f"--limit takes a number from 1; {typed.limit} would show nothing.")
    wanted: dict[str, Any] = {
        "status": typed.status,
        "kind": typed.kind,
        "model": typed.model,
        "queue": typed.queue,
        "created_after": typed.since,
        "created_before": typed.until,
        "caller": typed.caller,
        "metadata": dict(typed.metadata or ()),
    }
    found = list(context.client.jobs(typed.limit, **wanted))
    if context.wants_json:
        context.screen.json([job.raw for job in found])
        return 0
    rows = [
        (
            job.id,
            job.status,
            age(job.created_at),
            duration(job.metrics.get("queue_ms")),
            duration(job.metrics.get("run_ms")),
            job.model,
        )
        for job in found
    ]
    context.screen.table(HEADERS, rows, "There are no such jobs. Submit one with: stoker submit MODEL TEXT")
    return 0


def cancel(context: Context) -> int:
    """Cancel one job."""
    job = context.client.cancel(context.typed.job)
    if context.wants_json:
        context.screen.json(job.raw)
    elif job.status == "canceled":
        context.screen.say(f"{job.id} is canceled.")
    elif job.has_ended:
        context.screen.say(f"{job.id} had {job.status} before.")
    else:
        context.screen.say(f"{job.id} is being canceled; its worker has been told.")
    return 0


def retry(context: Context) -> int:
    """Run one job again."""
    job = context.client.retry(context.typed.job)
    announce(context, job)
    return 0


def delete(context: Context) -> int:
    """Erase one job."""
    context.client.delete(context.typed.job)
    if not context.wants_json:
        context.screen.say(f"{context.typed.job} is erased.")
    return 0


def result(context: Context) -> int:
    """Download what a job produced."""
    typed, client, screen = context.typed, context.client, context.screen
    job = client.get(typed.job)
    if not job.has_ended:
        raise StokerError(f"{job.id} is still {job.status}; wait for it with: stoker watch {job.id}")
    if not job.has_succeeded:
        return judge(screen, job)
    names = [one.name for one in job.artifacts]
    if typed.output is not None and typed.artifact is None and (len(names) > 1 or Path(typed.output).is_dir()):
        if not Path(typed.output).is_dir():
            raise UsageError(
                f"{job.id} made several artifacts and {typed.output} is no folder; make it, or say --artifact NAME."
            )
        write_all(context, job, Path(typed.output))
        return 0
    if len(names) > 1 and typed.artifact is None:
        raise UsageError(f"{job.id} made {', '.join(names)}; choose with --artifact NAME, or say -o FOLDER.")
    content = client.result(job, artifact=typed.artifact)
    if typed.output is not None:
        _write(context, Path(typed.output), content)
    elif screen.is_terminal and not _is_text(content):
        raise UsageError(f"The result is {size(len(content))} that are no text; write them with -o FILE.")
    elif screen.is_terminal:
        screen.write(content.decode().rstrip("\n") + "\n")
    else:
        sys.stdout.buffer.write(content)
    return 0


def announce(context: Context, job: Job) -> None:
    """Say that a job was accepted: its id for scripts, and what can be done next for people."""
    screen = context.screen
    if context.wants_json:
        screen.json(job.raw)
    elif screen.is_terminal:
        screen.say(f"{job.id} is {job.status} in {(job.queue or {}).get('name', job.model)}.")
        screen.say(f"Watch it with: stoker watch {job.id}")
    else:
        screen.say(job.id)


def _show(context: Context, job: Job) -> None:
    if context.wants_json:
        context.screen.json(job.raw)
        return
    context.screen.say(f"{job.id}  {context.screen.status_word(job.status)}")
    for line in page_of(job, context.screen.width):
        context.screen.say(line)


def make_folder(name: str) -> Path:
    """Return a folder, which is made if need be."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}.") from None
    return folder


def write_all(context: Context, job: Job, folder: Path) -> None:
    """Write everything that a job made into a folder."""
    for artifact in job.artifacts:
        # A name from the outside must not lead out of the folder.
        _write(context, folder / Path(artifact.name).name, context.client.download(artifact))


def _write(context: Context, path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StokerError(f"{path} cannot be written: {error.strerror}.") from None
    context.screen.note(f"{path}: {size(len(content))}")


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False
