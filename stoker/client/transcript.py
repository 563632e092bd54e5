"""What a job has said so far, kept right over restarts and trimmed logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stoker.client.documents import Event


@dataclass(slots=True)
class ToolCall:
    """A function that the model wants called; `arguments` is JSON once the job has ended."""

    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(slots=True)
class Answer:
    """One of the answers that a text job was asked for."""

    text: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)


class Transcript:
    """The answers and the progress that a job's events add up to."""

    def __init__(self) -> None:
        self.choices = [Answer()]
        self.fraction: float | None = None
        self.stage: str | None = None

    @property
    def text(self) -> str:
        """The text of the first answer."""
        return self.choices[0].text

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls of the first answer."""
        return self.choices[0].tool_calls

    def add(self, event: Event) -> None:
        """Take the next event; `restarted` makes what came before void, a snapshot replaces it."""
        data = event.data
        match event.type:
            case "restarted":
                self.choices, self.fraction, self.stage = [Answer()], None, None
            case "token":
                self._choice(data).text += data["text"]
            case "tool_call":
                _extend(self._choice(data), data)
            case "snapshot":
                self.choices = [_answer(one) for one in data.get("choices", [data])]
            case "progress":
                self.fraction, self.stage = data["fraction"], data["stage"]

    def _choice(self, data: Mapping[str, Any]) -> Answer:
        index: int = data.get("choice", 0)
        while len(self.choices) <= index:
            self.choices.append(Answer())
        return self.choices[index]


def _answer(said: Mapping[str, Any]) -> Answer:
    answer = Answer(said["text"])
    for call in said.get("tool_calls", ()):
        _extend(answer, call)
    return answer


def _extend(answer: Answer, piece: Mapping[str, Any]) -> None:
    """Add a piece to the call with its index, which it may begin."""
    while len(answer.tool_calls) <= piece["index"]:
        answer.tool_calls.append(ToolCall())
    call = answer.tool_calls[piece["index"]]
    call.id = piece.get("id", call.id)
    call.name = piece.get("name", call.name)
    call.arguments += piece.get("arguments", "")
