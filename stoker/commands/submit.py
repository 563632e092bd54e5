"""`stoker submit`: make a job of what was typed, and stay with it when that is wanted."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stoker.client import ForbiddenError, Job, Stoker
from stoker.commands.context import LONG_PATIENCE_SECONDS, Context, judge, leaving
from stoker.commands.given import UsageError, read_input
from stoker.commands.jobs import announce, make_folder, write_all
from stoker.commands.outline import made_by, output_of, place_of, text_of
from stoker.commands.watch import watch_job


def submit(context: Context) -> int:
    """Submit one job."""
    typed, client = context.typed, context.client
    folder = make_folder(typed.output) if typed.output is not None else None
    kind = typed.kind or _kind_of(client, typed.model)
    policy = {"priority": typed.priority, "ttl_seconds": typed.ttl, "run_at": typed.run_at}
    given = read_input(kind, typed.text, typed.input)
    model, _, adapter = typed.model.partition(":")  # as `stoker models` lists them
    given |= _wishes(typed, kind, [*([(adapter, None)] if adapter else []), *(typed.adapter or [])])
    job = client.submit(
        kind,
        model,
        given,
        policy={name: value for name, value in policy.items() if value is not None} or None,
        metadata=dict(typed.metadata) if typed.metadata else None,
        retention_seconds=typed.retention,
        webhook={"url": typed.webhook} if typed.webhook else None,
        idempotency_key=typed.idempotency_key,
    )
    if typed.watch:
        code = watch_job(context, job)
        return code or _save(context, context.client.get(job), folder)
    if not (typed.wait or typed.output):
        announce(context, job)
        return 0
    with leaving(job.id), Stoker(patience_seconds=LONG_PATIENCE_SECONDS) as patient:
        context.screen.status(place_of(job))
        ended = patient.wait(job, typed.timeout)
    if folder is None or context.wants_json or not ended.artifacts:
        show_result(context, ended)
    return judge(context.screen, ended) or _save(context, ended, folder)


def _wishes(typed: Namespace, kind: str, adapters: Sequence[tuple[str, float | None]]) -> dict[str, Any]:
    """Return what options say of the input."""
    wishes: dict[str, Any] = {name: value for name in ("seed", "n") if (value := getattr(typed, name)) is not None}
    if kind == "image" and adapters:
        wishes["adapters"] = [
            {"id": name} if strength is None else {"id": name, "strength": strength} for name, strength in adapters
        ]
    elif adapters:
        if len(adapters) > 1 or adapters[0][1] is not None:
            raise UsageError("Only images mix adapters or take them in part; name one, without a strength.")
        wishes["adapter"] = adapters[0][0]
    return wishes


def _save(context: Context, job: Job, folder: Path | None) -> int:
    """Save what a job made, where that is wanted."""
    if folder is not None:
        write_all(context, job, folder)
    return 0


def _kind_of(client: Stoker, model: str) -> str:
    try:
        return client.model(model).kind
    except ForbiddenError as error:
        raise UsageError(
            f"{error.message} Or say with --kind what the job makes; then it need not be looked up."
        ) from None


def show_result(context: Context, job: Job) -> None:
    """Print what a job made: JSON where that is wanted, text as it is, else what there is and where."""
    screen = context.screen
    if context.wants_json:
        screen.json(job.raw)
    elif job.has_succeeded and (text := text_of(job)) is not None:
        screen.write(text + "\n")
    elif job.has_succeeded and screen.is_terminal:
        for line in (output_of(job), *made_by(job)):
            screen.say(line)
    elif job.has_succeeded:
        output: Any = job.output if job.output is not None else [one.raw for one in job.artifacts]
        screen.json(output)
