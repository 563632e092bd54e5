"""Runs one command: opens the client, calls the command; an exit code and a sentence come of what went wrong."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from stoker.client import Stoker, StokerError
from stoker.commands import demo, jobs, keys, models, queues, submit, watch, workers
from stoker.commands.context import Context, StoppedError
from stoker.commands.given import UsageError
from stoker.commands.screen import Screen

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
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
    "queues": queues.queues,
    "workers": workers.workers,
    "models": models.models,
    "keys": keys.keys,
    "demo": demo.demo,
}


def run(arguments: argparse.Namespace, *, colour: bool) -> int:
    """Run a command; the exit code."""
    screen = Screen(colour=colour)
    try:
        " ".join(sys.argv).encode()
        with Stoker(patience_seconds=FIRST_PATIENCE_SECONDS) as client:
            code = COMMANDS[arguments.command](Context(arguments, client, screen))
        sys.stdout.flush()
    except UsageError as error:
        return _fail(screen, error, WRONG_USE)
    except UnicodeEncodeError:
        return _fail(screen, UsageError("The command line is not UTF-8 text."), WRONG_USE)
    except StoppedError as stopped:
        return _fail(screen, stopped, INTERRUPTED)
    except StokerError as error:
        return _fail(screen, error, FAILED)
    except BrokenPipeError:  # the reader left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _fail(screen: Screen, error: StokerError, code: int) -> int:
    screen.note(error.message)
    return code
