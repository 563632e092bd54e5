"""What the supervisor and its parts say: on the terminal with each part's name, and in one log file per part."""

import contextlib
import json
import os
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Self, TextIO

OWN_NAME = "stoker"
LOG_BYTES = 20 * 1024 * 1024
TAIL_BYTES = 16 * 1024
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


def readable(line: str) -> str:
    """A structured log line as a person reads it: time, level, event, the rest as name=value."""
    try:
        fields: dict[str, object] = dict(json.loads(line))
        said = [str(fields.pop("timestamp"))[11:19], f"{fields.pop('level'):<7}", str(fields.pop("event"))]
    except (ValueError, KeyError, TypeError):
        return line
    hidden = ("part", "logger")
    return " ".join([*said, *(f"{name}={value}" for name, value in fields.items() if name not in hidden)])


class LogFile:
    """One part's log. The log of an earlier run, or what grew too long, is kept once as NAME.log.1."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._fresh()

    def write(self, line: bytes) -> None:
        """Append a line, given without its end; on a full disk it is lost, and nothing else."""
        with contextlib.suppress(OSError):
            if self._file.tell() > LOG_BYTES:
                full, self._file = self._file, self._fresh()
                full.close()
            self._file.write(line + b"\n")

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def _fresh(self) -> BinaryIO:
        if self._path.exists():
            self._path.replace(self._path.with_suffix(".log.1"))
        return self._path.open("ab", buffering=0)


class Console:
    """One voice for many parts; it does not mind when nobody listens any more."""

    def __init__(self, logs: Path, terminal: TextIO | None, *, echo_parts: bool = True, colour: bool = False) -> None:
        self._logs = logs
        self._terminal = terminal
        self._echo_parts = echo_parts
        self._colour = colour
        self._files: dict[str, LogFile] = {}
        self.name_width = len(OWN_NAME)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for log in self._files.values():
            log.close()

    def say(self, text: str) -> None:
        """Say something of the supervisor's own."""
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        for line in text.splitlines():
            self._log(OWN_NAME, f"{stamp} {line}".encode())
            self._show(OWN_NAME, line)

    def announce(self, text: str) -> None:
        """Say something that is meant to be copied: without a name before it."""
        for line in text.splitlines():
            self._show("", line)

    def relay(self, part: str, line: bytes) -> None:
        """Pass on one line of a part's output."""
        self._log(part, line)
        if self._echo_parts:
            self._show(part, readable(line.decode(errors="replace").rstrip()))

    def repeat(self, part: str) -> None:
        """Show the last line of a part's log to those who do not see its lines as they come."""
        if not self._echo_parts and (last := self.tail(part, 1)):
            self._show("", f"  {readable(last)}")

    def tail(self, part: str, lines: int) -> str:
        """The last lines that a part has said in this run."""
        path = self.log_path(part)
        if part not in self._files or not path.exists():  # what there may be else is an earlier run's
            return ""
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])

    def log_path(self, part: str) -> Path:
        """Where the part's log is."""
        return self._logs / f"{part}.log"

    def leave_terminal(self) -> None:
        """Write only to the logs from now on."""
        self._terminal = None

    def _log(self, part: str, line: bytes) -> None:
        if part not in self._files:
            self._files[part] = LogFile(self.log_path(part))
        self._files[part].write(line)

    def _show(self, name: str, line: str) -> None:
        if self._terminal is None:
            return
        prefix = f"{name:<{self.name_width}} | " if self._echo_parts and name else ""
        if prefix and self._colour:
            colour = 1 if name == OWN_NAME else _COLOURS[zlib.crc32(name.encode()) % len(_COLOURS)]
            prefix = f"\033[{colour}m{prefix}\033[0m"
        try:
            print(prefix + line, file=self._terminal, flush=True)
        except OSError:  # the reader left, as `head` does: the logs have it all
            self._terminal = None
