"""Keeps one part running: starts it, waits until it is ready, starts it again when it dies."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stoker.console import Console
from stoker.errors import StartError
from stoker.parts import Part
from stoker.process import Process, how_it_ended
from stoker.readiness import is_ready
from stoker.shim import shim_command

POLL_SECONDS = 0.1
REMIND_SECONDS = 60.0
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 10.0
HEALTHY_SECONDS = 30.0
MOST_DEATHS_BEFORE_READY = 5
TAIL_LINES = 20

OnChange = Callable[[str, str], None]
"""Told the name of a part and what it does now: starting, ready, restarting, stopping."""


@dataclass(frozen=True)
class Surroundings:
    """What all parts of a run share."""

    environment: Mapping[str, str]
    ports: Mapping[str, int]
    placeholders: Mapping[str, str]
    parent_reader: int
    """The read end of the pipe whose end of file means that the supervisor is gone."""
    parts_lock: int
    """Inherited by every part, so that the lock is free when the last of them is gone."""


def next_delay(last_delay: float, ready_seconds: float) -> float:
    """How long to wait before a new start: doubling, unless the part had been well for a while."""
    if not last_delay or ready_seconds >= HEALTHY_SECONDS:
        return FIRST_DELAY_SECONDS
    return min(2 * last_delay, LONGEST_DELAY_SECONDS)


class Keeper:
    """One part and the process that it is at the moment."""

    def __init__(
        self, part: Part, surroundings: Surroundings, console: Console, *, ready_file: Path, on_change: OnChange
    ) -> None:
        self.part = part
        self.ready = asyncio.Event()
        """Set when the part was ready for the first time."""
        self._surroundings = surroundings
        self._console = console
        self._ready_file = ready_file
        self._on_change = partial(on_change, part.name)
        self._process: Process | None = None

    async def keep_running(self) -> None:
        """Start the part and start it again whenever it dies; fail if it never gets ready."""
        delay = 0.0
        deaths = 0
        while True:
            end, ready_seconds = await self._live_once()
            deaths += 1
            if not self.ready.is_set() and deaths >= MOST_DEATHS_BEFORE_READY:
                raise self._failure(f"was started {deaths} times and never got ready; the last time it {end}")
            delay = next_delay(delay, ready_seconds)
            self._on_change("restarting")
            self._console.say(f"{self.part.name} {end}; starting it again in {delay:g} s")
            self._console.repeat(self.part.name)
            await asyncio.sleep(delay)

    async def stop(self) -> None:
        """End the part, politely first."""
        if self._process is not None and not self._process.has_ended:
            self._on_change("stopping")
            if not await self._process.stop(self.part.stop_seconds):
                self._console.say(f"{self.part.name} did not stop within {self.part.stop_seconds:g} s: killed")

    def kill(self) -> None:
        """End the part at once."""
        if self._process is not None:
            self._process.kill()

    async def _live_once(self) -> tuple[str, float]:
        """From start to death: how it ended and for how long it had been ready."""
        self._on_change("starting")
        started = time.monotonic()
        try:
            process = self._process = self._start()
        except OSError as error:
            return f"could not be started ({error})", 0.0
        ready_since = None
        if await self._wait_until_ready(process):
            ready_since = time.monotonic()
            self.ready.set()
            self._on_change("ready")
            self._console.say(f"{self.part.name} is ready ({ready_since - started:.1f} s)")
        end = f"ended {how_it_ended(await process.finish())}"
        return end, time.monotonic() - ready_since if ready_since else 0.0

    async def _wait_until_ready(self, process: Process) -> bool:
        """Whether it got ready; too late is fatal the first time, later a reason to start it again."""
        started = time.monotonic()
        deadline, reminder = started + self.part.start_seconds, started + REMIND_SECONDS
        while not await is_ready(self.part.ready, self._surroundings.ports, self._ready_file):
            if await process.wait(POLL_SECONDS):
                return False
            now = time.monotonic()
            if now > reminder:  # a large model takes its time, the more when it is fetched first
                reminder = now + REMIND_SECONDS
                self._console.say(f"{self.part.name} is still starting ({now - started:.0f} s)")
                self._console.repeat(self.part.name)
            if now > deadline:
                late = f"was not ready within {self.part.start_seconds:g} s"
                if not self.ready.is_set():
                    raise self._failure(late)
                self._console.say(f"{self.part.name} {late}")
                process.kill()
                return False
        return not process.has_ended

    def _start(self) -> Process:
        shared = self._surroundings
        self._ready_file.unlink(missing_ok=True)
        command = self.part.command_line({**shared.placeholders, "ready_file": str(self._ready_file)})
        environment = {**shared.environment, **self.part.environment}
        environment["STOKER_READY_FILE"] = str(self._ready_file)
        if self.part.own:
            environment["STOKER_PARENT_FD"] = str(shared.parent_reader)
        else:
            command = shim_command(shared.parent_reader, command)
        relay = partial(self._console.relay, self.part.name)
        return Process.start(command, environment, (shared.parent_reader, shared.parts_lock), relay)

    def _failure(self, what: str) -> StartError:
        name = self.part.name
        tail = self._console.tail(name, TAIL_LINES)
        said = f"Its last lines:\n{tail}" if tail else "It said nothing."
        return StartError(f"{name} {what}. Its log is {self._console.log_path(name)}. {said}")
