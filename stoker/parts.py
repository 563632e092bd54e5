"""The parts that a supervisor runs: what each is called, needs, and how it is known to be ready."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stoker.errors import StartError

SERVICES = ("redis", "s3")
READY_KINDS = ("http", "file")


@dataclass(frozen=True)
class Ready:
    """How a part is known to be ready: http (200 on a port's path), file, or a port that answers."""

    kind: str
    path: str = "/"
    port: str = "api"
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Part:
    """One program to keep running."""

    name: str
    command: list[str]
    ready: Ready
    own: bool = False
    """Own parts watch the supervisor's pipe themselves; foreign ones run under the shim."""
    needs: tuple[str, ...] = SERVICES
    start_seconds: float = 120.0
    stop_seconds: float = 10.0
    environment: dict[str, str] = field(default_factory=dict)

    def command_line(self, values: Mapping[str, str]) -> list[str]:
        """The command with `{api_port}` and its like filled in and this Python as `python`."""
        words = [_fill(word, values) for word in self.command]
        return [sys.executable, *words[1:]] if words[0] == "python" else words


def read_parts(text: str) -> list[Part]:
    """The parts as `python -m producer_api parts --json` tells them."""
    try:
        return [_read_part(entry) for entry in json.loads(text)["parts"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StartError(
            f"`python -m producer_api parts --json` gave a table of parts that cannot be read ({error!r})."
        ) from error


def read_remark(text: str) -> str:
    """What a person should be told beside the table, such as a misspelt setting, or nothing."""
    return str(json.loads(text).get("remark") or "")


def check_needs(parts: Sequence[Part]) -> None:
    """Refuse parts that would wait for ever: names taken twice, unknown needs, or needs in a circle."""
    waiting = {part.name: set(part.needs) for part in parts}
    if len(waiting) < len(parts) or not waiting.keys().isdisjoint(SERVICES):
        raise StartError("Two parts have the same name in `python -m producer_api parts --json`.")
    started = set(SERVICES)
    while waiting:
        startable = {name for name, needs in waiting.items() if needs <= started}
        if not startable:
            stuck = ", ".join(f"{name} needs {' and '.join(sorted(waiting[name]))}" for name in sorted(waiting))
            raise StartError(f"These parts can never start: {stuck}.")
        started |= startable
        waiting = {name: needs for name, needs in waiting.items() if name not in startable}


def _read_part(entry: dict[str, Any]) -> Part:
    known: dict[str, Any] = {
        name: entry[name] for name in ("name", "own", "start_seconds", "stop_seconds") if name in entry
    }
    if "needs" in entry:
        known["needs"] = tuple(entry["needs"])
    ready = Ready(**entry["ready"])
    if ready.kind not in READY_KINDS:
        raise ValueError(f"{entry['name']}: ready.kind is {ready.kind}, not one of {', '.join(READY_KINDS)}")
    return Part(command=[str(word) for word in entry["command"]], ready=ready, **known)


def _fill(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word
