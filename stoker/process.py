"""One process of a part, from its start to its end."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Self

LAST_WORDS_SECONDS = 1.0
GROUP_POLLS = 50
GROUP_POLL_SECONDS = 0.02
"""So often and so long what a process had started may take to follow it: Python's tracker frees semaphores then."""
LINE_BYTES = 64 * 1024


class Process:
    """A running process, the leader of a session of its own."""

    def __init__(self, popen: subprocess.Popen[bytes], relay: Callable[[bytes], None]) -> None:
        self._popen = popen
        # A thread per living process; asyncio's own subprocesses end differently in each Python version.
        self._exit = asyncio.get_running_loop().run_in_executor(None, popen.wait)
        self._output = asyncio.create_task(self._relay_output(relay))

    @classmethod
    def start(
        cls,
        command: list[str],
        environment: Mapping[str, str],
        inherited: Sequence[int],
        relay: Callable[[bytes], None],
        streams: tuple[IO[bytes], IO[bytes]] | None = None,
    ) -> Self:
        """Start a command with these descriptors open; `relay` gets each line that it says.

        With `streams` given, it reads the first, writes its answer to the second, and says the rest.
        """
        read, write = streams or (subprocess.DEVNULL, subprocess.PIPE)
        popen = subprocess.Popen(
            command,
            env=environment,
            pass_fds=inherited,
            stdin=read,
            stdout=write,
            stderr=subprocess.PIPE if streams else subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is for the supervisor alone
        )
        return cls(popen, relay)

    @property
    def has_ended(self) -> bool:
        """Whether the main process is gone."""
        return self._exit.done()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end for so long at most; whether it came. Being cancelled changes nothing."""
        await asyncio.wait([self._exit], timeout=seconds)
        return self.has_ended

    async def finish(self) -> int:
        """Wait for the end and that of its group, which may be ended, read its last words; the exit code."""
        await self.wait()
        await self._end_group()
        await asyncio.wait([self._output], timeout=LAST_WORDS_SECONDS)
        return self._exit.result()

    async def stop(self, grace_seconds: float) -> bool:
        """SIGTERM to the main process only, after the grace SIGKILL to its group; whether it ended itself."""
        if not self.has_ended:
            self._popen.terminate()
        in_time = await self.wait(grace_seconds)
        self.kill()
        await self.finish()
        return in_time

    def kill(self) -> None:
        """End the process and whatever it started in its group, at once."""
        if not self.has_ended:
            self._kill_group()

    async def _end_group(self) -> None:
        try:
            for _ in range(GROUP_POLLS):
                if not self._has_group():
                    break
                await asyncio.sleep(GROUP_POLL_SECONDS)
        finally:
            self._kill_group()

    def _has_group(self) -> bool:
        try:
            os.killpg(self._popen.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: no permission for zombies
            os.killpg(self._popen.pid, signal.SIGKILL)

    async def _relay_output(self, relay: Callable[[bytes], None]) -> None:
        reader = asyncio.StreamReader(limit=LINE_BYTES)
        loop = asyncio.get_running_loop()
        pipe = self._popen.stderr or self._popen.stdout
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        rest = b""
        while chunk := await reader.read(LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                relay(line)
            if len(rest) > LINE_BYTES:  # nobody reads such lines whole
                relay(rest)
                rest = b""
        if rest:
            relay(rest)


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    number = -code if code < 0 else code - 128  # the shim ends with 128 + n where its program ended by signal n
    with contextlib.suppress(ValueError):
        return f"by {signal.Signals(number).name}"
    return f"with exit code {code}"
