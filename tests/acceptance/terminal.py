"""A terminal of 80 columns in which a test runs a command, reads along and presses Ctrl-C."""

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

LINES, COLUMNS = 24, 80
PATIENCE_SECONDS = 60.0
COLOUR = re.compile(r"\033\[[0-9;]*m")


class Terminal:
    """One command and what it has written so far."""

    def __init__(self, command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        bare = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self._process = subprocess.Popen(command, cwd=folder, env=bare, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    @property
    def shown(self) -> str:
        """What it wrote, without colours."""
        return COLOUR.sub("", self.said)

    def read_until(self, text: str) -> None:
        """Read until the text has been written."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.said:
            assert time.monotonic() < deadline, self.said
            assert self._read(), self.said

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def finish(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self._process.wait(PATIENCE_SECONDS)

    def _read(self) -> bool:
        """Read what there is; False when the command has ended."""
        ready, _, _ = select.select([self._master], [], [], PATIENCE_SECONDS)
        assert ready, self.said
        try:
            content = os.read(self._master, 65536)
        except OSError:  # Linux says so when the last one has closed the other end
            return False
        self.said += content.decode(errors="replace").replace("\r\n", "\n")
        return bool(content)
