"""Keeps parts running as the supervisor does, and lets faults kill, freeze and stop each by its pid.

Each is the leader of a group in our session: if we die, the kernel itself wakes and hangs up the frozen ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from stoker.parts import Part
from stoker.readiness import is_ready
from stoker.shim import shim_command
from tests.chaos.waiting import POLL_SECONDS, until

RESTART_SECONDS = 0.3
STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Surroundings:
    """What all parts of a run share."""

    folder: Path
    code: Path
    """Where the packages are: the parts' working directory."""
    environment: Mapping[str, str]
    ports: Mapping[str, int]


@dataclass
class Kept:
    """One part, the process that it is now and the deaths it died."""

    part: Part
    surroundings: Surroundings
    exits: list[int] = field(default_factory=list)
    starts: int = 0
    ready_at: float | None = None
    """When the present process became ready (monotonic)."""
    _process: subprocess.Popen[bytes] | None = None
    _is_wanted: bool = True

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.surroundings.folder / "logs" / f"{self.name}.log"

    def kill9(self) -> int:
        """End it as the kernel's memory killer does; return the pid that died."""
        pid = self.pid
        self._signal(signal.SIGKILL)
        return pid

    def stop(self) -> None:
        """Freeze it (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def term(self) -> None:
        """Ask it to end (SIGTERM); it is started again when it has."""
        self._signal(signal.SIGTERM)

    async def keep_running(self, parent_reader: int) -> None:
        """Start the part, and again whenever it ended, until it is no longer wanted."""
        while self._is_wanted:
            self._start(parent_reader)
            await self._live()
            if self._is_wanted:
                await asyncio.sleep(RESTART_SECONDS)

    async def wait_ready(self, seconds: float, *, after: int = 0) -> float:
        """Wait until a process after the so-manieth start is ready; return when that was."""
        if not await until(lambda: self.ready_at is not None and self.starts > after, seconds):
            said = self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""
            raise RuntimeError(f"{self.name} was not ready within {seconds:g} s. Its last words:\n{said}")
        return self.ready_at or 0.0

    async def end(self) -> None:
        """End it for good: politely, after a while not."""
        self._is_wanted = False
        if self._process is None:
            return
        self.cont()
        self.term()
        process = self._process
        await until(lambda: process.poll() is not None, STOP_SECONDS)
        self.destroy()

    def destroy(self) -> None:
        """End it and its group at once."""
        self._is_wanted = False
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _start(self, parent_reader: int) -> None:
        shared = self.surroundings
        self._ready_file.unlink(missing_ok=True)
        values = {f"{name}_port": str(port) for name, port in shared.ports.items()}
        values |= {"state": str(shared.folder), "ready_file": str(self._ready_file)}
        command = self.part.command_line(values)
        if not self.part.own:
            command = shim_command(parent_reader, command)
        environment = {**shared.environment, **self.part.environment}
        environment |= {"STOKER_READY_FILE": str(self._ready_file), "STOKER_PARENT_FD": str(parent_reader)}
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=shared.code,
                env=environment,
                pass_fds=[parent_reader],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        self.starts += 1

    async def _live(self) -> None:
        process = self._process
        if process is None:
            return
        self.ready_at = None
        while (code := process.poll()) is None:
            if self.ready_at is None and await is_ready(self.part.ready, self.surroundings.ports, self._ready_file):
                self.ready_at = time.monotonic()
            await asyncio.sleep(POLL_SECONDS)
        self.ready_at = None
        self.exits.append(code)

    @property
    def _ready_file(self) -> Path:
        return self.surroundings.folder / f"{self.name}.ready"


class Keeper:
    """All parts of one run; use it in an `async with` block."""

    def __init__(self, parts: list[Part], surroundings: Surroundings) -> None:
        (surroundings.folder / "logs").mkdir(parents=True, exist_ok=True)
        self.parts = {part.name: Kept(part, surroundings) for part in parts}
        self._reader, self._writer = os.pipe()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(kept.keep_running(self._reader)) for kept in self.parts.values()]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await asyncio.gather(*(kept.end() for kept in self.parts.values()))
        finally:
            for kept in self.parts.values():
                kept.destroy()
            for task in self._tasks:
                task.cancel()
            os.close(self._writer)
            os.close(self._reader)

    async def wait_ready(self, seconds: float) -> None:
        """Wait until every part is ready."""
        await asyncio.gather(*(kept.wait_ready(seconds) for kept in self.parts.values()))
        for task in self._tasks:
            if task.done():
                task.result()
