"""Runs one command: opens the client, calls the command; an exit code and a sentence come of what went wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from stoker.client import ServiceError, Stoker, StokerError, UnauthenticatedError
from stoker.commands import batch, demo, jobs, keys, loras, models, queues, submit, watch, webhooks, workers
from stoker.commands.context import Context, StoppedError
from stoker.commands.given import UsageError
from stoker.commands.screen import Screen

FAILED = 1
EXIT_CODES: dict[type[StokerError], int] = {UsageError: 2, StoppedError: 130}
FIRST_PATIENCE_SECONDS = 2.0
"""A person who waits for the first answer wants to hear soon that nobody is there."""

COMMANDS: dict[str, Callable[[Context], int]] = {
    "submit": submit.submit,
    "get": jobs.get,
    "watch": watch.watch,
    "cancel": jobs.cancel,
    "retry": jobs.retry,
    "delete": jobs.delete,
    "result": jobs.result,
    "jobs": jobs.jobs,
    "batch": batch.batch,
    "queues": queues.queues,
    "workers": workers.workers,
    "models": models.models,
    "loras": loras.loras,
    "keys": keys.keys,
    "webhooks": webhooks.webhooks,
    "demo": demo.demo,
}


def run(arguments: argparse.Namespace, *, colour: bool) -> int:
    """Run a command; the exit code."""
    screen = Screen(colour=colour)
    try:
        _check_text(sys.argv)
        with Stoker(patience_seconds=FIRST_PATIENCE_SECONDS) as client:
            return COMMANDS[arguments.command](Context(arguments, client, screen))
    except StokerError as error:
        screen.note(_sentence(error))
        return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), FAILED)


def _check_text(words: list[str]) -> None:
    try:
        " ".join(words).encode()
    except UnicodeEncodeError:
        raise UsageError("The command line is not UTF-8 text.") from None


def _sentence(error: StokerError) -> str:
    if isinstance(error, UnauthenticatedError):
        return f"{error.message} The key comes from STOKER_API_KEY, or else from .stoker/client.env."
    if isinstance(error, ServiceError) and error.request_id:
        return f"{error.message} (request {error.request_id})"
    return error.message
