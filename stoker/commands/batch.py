"""`stoker batch`: many requests in one file; run them, follow them, steer them, get what they gave."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stoker.client import Batch, Stoker, StokerError
from stoker.commands.batch_progress import Pace, counts_of, end_of, progress_of, summary_of
from stoker.commands.context import LONG_PATIENCE_SECONDS, Context, StoppedError
from stoker.commands.given import UsageError
from stoker.commands.words import age, clock, one_line, size

HEADERS = ("BATCH", "STATUS", "AGE", "LINES", "ENDPOINT")
SHOWN_FLAWS = 10
LABEL_WIDTH = 9


def batch(context: Context) -> int:
    """Run one of the commands about batches; without one, list them."""
    return ACTIONS[context.typed.action](context)


def _run(context: Context) -> int:
    typed, screen = context.typed, context.screen
    if not typed.file.is_file():
        raise UsageError(f"There is no file {typed.file}; give one with a request on each line.")
    output = typed.output or typed.file.with_suffix(".output.jsonl")
    if typed.wait:
        _check_place(output, typed.file)
    if not context.wants_json:
        screen.status(f"uploading {size(typed.file.stat().st_size)}")
    made = context.client.batches.submit(
        typed.file,
        endpoint=typed.endpoint,
        completion_window=typed.window,
        metadata=dict(typed.metadata) if typed.metadata else None,
        webhook={"url": typed.webhook} if typed.webhook else None,
    )
    if typed.wait:
        return _finish(context, made, output)
    if context.wants_json:
        screen.json(made.raw)
    elif screen.is_terminal:
        screen.say(f"{made.id} is {made.status}.")
        screen.say(f"Wait for its answers with: stoker batch wait {made.id}")
    else:
        screen.say(made.id)
    return 0


def _wait(context: Context) -> int:
    found = context.client.batches.get(context.typed.batch)
    output = context.typed.output or Path(f"{found.id}.output.jsonl")
    _check_place(output)
    return _finish(context, found, output)


def _check_place(output: Path, requests: Path | None = None) -> None:
    """Refuse at once what could not be written when the answers are there, perhaps tomorrow."""
    if output.is_dir():
        raise UsageError(f"{output} is a folder; name a file in it for the answers with --output.")
    for path in (output, _beside(output)):
        if requests is not None and path.exists() and path.samefile(requests):
            raise UsageError(f"The answers would take the place of the requests in {path}; choose another --output.")
    if not output.parent.is_dir() or not os.access(output if output.exists() else output.parent, os.W_OK):
        raise UsageError(f"{output} cannot be written; name a file for the answers with --output that can.")


def _finish(context: Context, found: Batch, output: Path) -> int:
    """Wait for a batch's end, fetch what it gave, say what became of it."""
    screen, pace = context.screen, Pace()
    shown = screen.is_terminal and not context.wants_json
    if shown:
        screen.say(found.id)
    with _leaving(found), Stoker(patience_seconds=LONG_PATIENCE_SECONDS) as patient:

        def show(seen: Batch) -> None:
            if shown:
                screen.status(progress_of(seen, pace))

        ended = patient.batches.wait(found, context.typed.timeout, on_look=show)
        saved = _save_all(patient, ended, output)
    if context.wants_json:
        screen.json({**ended.raw, **{f"{name}_path": str(path) for name, path in saved.items()}})
    else:
        screen.say(f"{ended.id} {summary_of(ended)}")
        for name, path in saved.items():
            screen.say(f"  {name}: {path}")
    return _judge(context, ended)


def _save_all(client: Stoker, ended: Batch, output: Path) -> dict[str, Path]:
    """Write the files that a batch has, in place of an earlier run's; where they are."""
    saved: dict[str, Path] = {}
    errors = _beside(output)
    if output.exists() and not output.is_file():
        errors = Path(f"{ended.id}.errors.jsonl")  # not beside a device
    for name, file_id, path in (("output", ended.output_file_id, output), ("errors", ended.error_file_id, errors)):
        if file_id is not None:
            _save(client, ended, path, errors=name == "errors")
            saved[name] = path
        elif path.is_file() and (ended.output_file_id or ended.error_file_id):
            _remove(path)
    return saved


def _beside(output: Path) -> Path:
    """Return where the lines that failed go."""
    return output.with_name(f"{output.name.removesuffix('.jsonl').removesuffix('.output')}.errors.jsonl")


def _remove(path: Path) -> None:
    """Let nobody take what an earlier run left for this one's."""
    try:
        path.unlink()
    except OSError as error:
        raise StokerError(f"{path} is of an earlier run and cannot be removed: {error.strerror}.") from None


def _save(client: Stoker, found: Batch | str, path: Path, *, errors: bool) -> int:
    try:
        return client.batches.save(found, path, errors=errors)
    except OSError as error:
        again = f"stoker batch output {found if isinstance(found, str) else found.id}{' --errors' * errors} -o FILE"
        raise StokerError(f"{path} cannot be written: {error.strerror}. Somewhere else: {again}") from None


def _judge(context: Context, ended: Batch) -> int:
    """Return the exit code of a batch that has ended; what is wrong with its file is said on standard error."""
    for said in _flaws(ended):
        context.screen.note(f"  {said}")
    return 0 if ended.status == "completed" and not ended.failed else 1


def _flaws(found: Batch) -> Iterator[str]:
    """Yield what is wrong with a batch's file, the first flaws of it."""
    for flaw in found.flaws[:SHOWN_FLAWS]:
        yield ("" if flaw["line"] is None else f"line {flaw['line']:,}: ") + one_line(flaw["message"])
    if len(found.flaws) > SHOWN_FLAWS:
        yield f"and {len(found.flaws) - SHOWN_FLAWS} more: stoker batch get {found.id} --json"


def _list(context: Context) -> int:
    limit = getattr(context.typed, "limit", 20)
    if limit < 1:
        raise UsageError(f"--limit takes a number from 1; {limit} would show nothing.")
    found = list(context.client.batches.list(limit))
    if context.wants_json:
        context.screen.json([one.raw for one in found])
        return 0
    rows = [(one.id, _status(one), age(one.created_at), _counts(one), one.endpoint) for one in found]
    context.screen.table(HEADERS, rows, "You have no batches. Make one with: stoker batch run FILE")
    return 0


def _get(context: Context) -> int:
    return _show(context, context.client.batches.get(context.typed.batch))


def _cancel(context: Context) -> int:
    return _show(context, context.client.batches.cancel(context.typed.batch))


def _pause(context: Context) -> int:
    return _show(context, context.client.batches.pause(context.typed.batch))


def _resume(context: Context) -> int:
    return _show(context, context.client.batches.resume(context.typed.batch))


def _show(context: Context, found: Batch) -> int:
    screen = context.screen
    if context.wants_json:
        screen.json(found.raw)
        return 0
    facts: dict[str, Any] = {
        "lines": _counts(found),
        "endpoint": found.endpoint,
        "created": f"{clock(found.created_at)} ({age(found.created_at)} ago)",
        "window": f"{found.completion_window}, until {clock(found.expires_at)}",
        "ended": ", ".join(end_of(found)) if found.has_ended else None,
        "metadata": ", ".join(f"{name}={value}" for name, value in (found.metadata or {}).items()),
        "output": found.output_file_id,
        "errors": found.error_file_id,
    }
    screen.say(f"{found.id}  {screen.status_word(_status(found))}")
    for name, value in facts.items():
        if value:
            screen.say(f"  {name:<{LABEL_WIDTH}} {one_line(str(value))}")
    for said in _flaws(found):
        screen.say(f"  {'flaw':<{LABEL_WIDTH}} {said}")
    return 0


def _output(context: Context) -> int:
    typed, client = context.typed, context.client
    if typed.output is not None:
        written = _save(client, typed.batch, typed.output, errors=typed.errors)
        context.screen.note(f"{typed.output}: {size(written)}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers"
        _save(client, typed.batch, path, errors=typed.errors)
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                sys.stdout.buffer.write(piece)
    return 0


def _counts(found: Batch) -> str | None:
    return counts_of(found) if found.total else None


def _status(found: Batch) -> str:
    return "paused" if found.paused else found.status


@contextmanager
def _leaving(found: Batch) -> Iterator[None]:
    """Say after Ctrl-C that the batch does not stop with us."""
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError(
            f"Stopped waiting; {found.id} goes on.\n"
            f"  wait for it again: stoker batch wait {found.id}\n"
            f"  cancel it:         stoker batch cancel {found.id}"
        ) from None


ACTIONS: dict[str | None, Callable[[Context], int]] = {
    None: _list,
    "run": _run,
    "wait": _wait,
    "list": _list,
    "get": _get,
    "cancel": _cancel,
    "pause": _pause,
    "resume": _resume,
    "output": _output,
}
