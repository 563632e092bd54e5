"""`stoker up`: one supervisor per state folder, in the foreground or detached from the terminal."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TextIO

from stoker.console import Console
from stoker.errors import StartError
from stoker.keeper import Surroundings
from stoker.settings import Settings
from stoker.state import PARTS_LOCK, SUPERVISOR_LOCK, StateFolder
from stoker.supervisor import Supervisor
from stoker.surroundings import choose_ports, part_environment

EARLIER_RUN_SECONDS = 60.0
READY_MARK = "\0ready\n"


def up(settings: Settings, terminal: TextIO, *, echo_parts: bool, when_up: Callable[[], None]) -> int:
    """Run the platform until it is told to stop; the exit code."""
    state = StateFolder(settings.home)
    try:
        state.prepare()
        is_free = state.lock(SUPERVISOR_LOCK, wait_seconds=0.3) is not None
    except OSError as error:
        print(_unusable(state, error), file=terminal, flush=True)
        return 1
    if not is_free:
        print(_already_running(state), file=terminal, flush=True)
        return 1
    state.write_run(None)

    def leave() -> None:
        when_up()
        if not echo_parts:
            console.leave_terminal()

    with Console(state.logs, terminal, echo_parts=echo_parts, colour=settings.colour) as console:
        try:
            surroundings = _prepare(settings, state, console)
        except StartError as error:
            console.say(str(error))
            return 1
        return asyncio.run(Supervisor(settings, state, console, surroundings).run(leave))


def up_detached(settings: Settings) -> int:
    """Run the platform in the background; returns when it is ready, or with its exit code when it failed."""
    os.closerange(3, 65536)  # whoever waits for what we inherited must not wait for ever
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return _follow(child, reader)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor, target in ((null, 0), (writer, 1), (writer, 2)):
        os.dup2(descriptor, target)
    os.close(writer)

    def when_up() -> None:
        with contextlib.suppress(OSError):
            print(READY_MARK, end="", flush=True)
        os.dup2(null, 1)
        os.dup2(null, 2)

    return up(replace(settings, under_make=False, colour=False), sys.stdout, echo_parts=False, when_up=when_up)


def _prepare(settings: Settings, state: StateFolder, console: Console) -> Surroundings:
    parts_lock = _lock_parts(state, console)  # first: the ports of an earlier run are free when its parts are gone
    ports = choose_ports(settings, console.say)
    environment = part_environment(settings, state, ports)
    # Only this process holds the write end, so its death, however it comes, is the end of file for every part.
    reader, _ = os.pipe()
    placeholders = {"api_port": f"{ports['api']}", "flower_port": f"{ports['flower']}", "state": f"{state.path}"}
    return Surroundings(environment, ports, placeholders, reader, parts_lock)


def _lock_parts(state: StateFolder, console: Console) -> int:
    descriptor = state.lock(PARTS_LOCK)
    if descriptor is None:
        console.say("Waiting for the parts of an earlier run to end.")
        descriptor = state.lock(PARTS_LOCK, EARLIER_RUN_SECONDS)
    if descriptor is None:
        raise StartError(
            f"Parts of an earlier run still live. See who holds {state.path / PARTS_LOCK} "
            f"(`fuser {state.shown / PARTS_LOCK}`), end them, and try again."
        )
    return descriptor


def _unusable(state: StateFolder, error: OSError) -> str:
    return f"The folder {state.shown} cannot be used ({error.strerror}); set STOKER_HOME to one that can be written."


def _already_running(state: StateFolder) -> str:
    run = state.read_run()
    where = f": {run.url} (process {run.pid})" if run else ", and is just starting"
    return f"Stoker already runs in {state.shown}{where}. Stop it with `make down`."


def _follow(child: int, reader: int) -> int:
    """Show what the child says until it is up or gone."""
    is_up = False
    with os.fdopen(reader, errors="replace") as lines:
        while True:
            try:
                for line in lines:
                    is_up = is_up or line == READY_MARK
                    if line != READY_MARK:
                        _show(line)
                break
            except KeyboardInterrupt:
                os.kill(child, signal.SIGTERM)
    return 0 if is_up else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _show(line: str) -> None:
    try:
        print(line, end="", flush=True)
    except BrokenPipeError:  # the reader left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
