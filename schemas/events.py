"""Events: what an engine says while it works, and the envelope in which a job's readers get it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from pydantic_core import from_json, to_json

from schemas.base import JsonObject

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class EventType(StrEnum):
    """The `event:` of a job's stream."""

    STARTED = "started"
    RESTARTED = "restarted"  # a new attempt began: what came before is void
    TOKEN = "token"
    TOOL_CALL = "tool_call"  # a piece of a call that the model wants made
    PROGRESS = "progress"
    PREVIEW = "preview"
    LOG = "log"
    ARTIFACT = "artifact"
    SNAPSHOT = "snapshot"  # all output so far, for readers whose position was trimmed
    FINISHED = "finished"  # the last one: a terminal status


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event of one attempt of one job; `attempt-seq` is its id on the wire."""

    attempt: int
    seq: int
    type: EventType
    at: float
    data: JsonObject
    line: bytes = field(default=b"", compare=False, repr=False)
    """The JSON that it was read from: whoever passes it on need not write it again."""

    @property
    def id(self) -> str:
        """Return the id that a reader resumes from."""
        return f"{self.attempt}-{self.seq}"

    def to_json(self) -> bytes:
        """Return the envelope as one line of JSON."""
        if self.line:
            return self.line
        fields = {"attempt": self.attempt, "seq": self.seq, "type": self.type, "at": self.at, "data": self.data}
        try:
            return to_json(fields)
        except ValueError:  # half a surrogate pair must not stop the others
            return _ENCODER.encode(fields).encode(errors="replace")

    @classmethod
    def from_json(cls, line: bytes) -> Self:
        """Read what to_json wrote."""
        fields = from_json(line)
        return cls(fields["attempt"], fields["seq"], EventType(fields["type"]), fields["at"], fields["data"], line)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of generated text: whole characters only. `choice` tells several answers apart."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallPiece:
    """A piece of a call that the model wants made: the first has id and name, each may have some of the arguments."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ProgressMade:
    """How far the job is, from 0 to 1, and in which stage."""

    fraction: float
    stage: str


@dataclass(frozen=True, slots=True)
class Preview:
    """A small picture of what is becoming."""

    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Log:
    """A sentence for the caller."""

    message: str


@dataclass(frozen=True, slots=True)
class Produced:
    """The bytes of one result object."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """The engine is done: the output as JSON, and what it took. Matrices in it may be arrays, see `rows_of`."""

    output: JsonObject
    usage: JsonObject = field(default_factory=dict)
    metrics: JsonObject = field(default_factory=dict)


def rows_of(array: Any) -> Iterator[Any]:
    """Turn an array into rows of plain numbers, one after the other, for whoever writes JSON."""
    if not hasattr(array, "tolist"):
        message = f"{type(array).__name__} cannot be written as JSON"
        raise TypeError(message)
    return (row.tolist() for row in array)


EngineEvent = Token | ToolCallPiece | ProgressMade | Preview | Log | Produced | Finished
"""What an engine's run yields; Finished comes last and once."""
