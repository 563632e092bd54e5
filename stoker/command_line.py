"""The command line from its words to its exit code."""

import os
import sys
from argparse import Namespace

from stoker.commands.parser import parse
from stoker.down import down, status
from stoker.settings import Settings, read_settings
from stoker.up import up, up_detached

READER_LEFT = 1


def main() -> int:
    """Run one command; the exit code. A reader who leaves early, as `head` does, is no reason for a traceback."""
    try:
        try:
            return _run()
        finally:  # also behind `--help`, which leaves by an exception
            sys.stdout.flush()
    except BrokenPipeError:
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # what they still hold would be written at the exit
            os.dup2(null, stream.fileno())
        return READER_LEFT


def _run() -> int:
    arguments = parse(sys.argv[1:])
    settings = read_settings()
    if arguments.command in ("up", "down", "status"):
        return _supervise(arguments, settings)
    from stoker.commands.run import run  # noqa: PLC0415 - the supervisor lives long and needs no HTTP client

    return run(arguments, colour=settings.colour)


def _supervise(arguments: Namespace, settings: Settings) -> int:
    if arguments.command == "down":
        return down(settings)
    if arguments.command == "status":
        return status(settings)
    if arguments.detach:
        return up_detached(settings)
    return up(settings, sys.stdout, echo_parts=True, when_up=lambda: None)
