"""A text job's answer, as it grows out of pieces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.base import JsonObject
from schemas.events import Token, ToolCallPiece
from schemas.text import Choice, TextOutput


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def as_json(self) -> JsonObject:
        function = {"name": self.name, "arguments": "".join(self.arguments)}
        return {"id": self.id, "type": "function", "function": function}


@dataclass(slots=True)
class Answer:
    """One of the answers to a prompt."""

    pieces: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    reason: str | None = None

    def add(self, piece: Token | ToolCallPiece) -> None:
        """Take in what the model said next."""
        if isinstance(piece, Token):
            self.pieces.append(piece.text)
            return
        call = self.calls.setdefault(piece.index, _Call())
        call.id = piece.id or call.id
        call.name = piece.name or call.name
        call.arguments.append(piece.arguments)

    @property
    def text(self) -> str:
        """Return its words."""
        return "".join(self.pieces)

    @property
    def finish_reason(self) -> str:
        """Return why it ended, in OpenAI's words."""
        if self.reason == "length":
            return "length"
        return "tool_calls" if self.calls else "stop"

    def as_choice(self, index: int) -> Choice:
        """Return it as one of several."""
        choice = Choice(index=index, text=self.text, finish_reason=self.finish_reason)
        if self.calls:
            choice["tool_calls"] = self._calls()
        return choice

    def as_turn(self) -> JsonObject:
        """Return it as the assistant's turn, which can go into the next conversation as it is."""
        turn: JsonObject = {"role": "assistant", "content": self.text}
        if self.calls:
            turn["tool_calls"] = self._calls()
        return turn

    def _calls(self) -> list[JsonObject]:
        return [call.as_json() for _, call in sorted(self.calls.items())]


def as_output(answers: Iterable[Answer], *, is_conversation: bool) -> TextOutput:
    """Return a job's output."""
    answers = list(answers)
    choices = [answer.as_choice(index) for index, answer in enumerate(answers)]
    output = TextOutput(text=choices[0]["text"], finish_reason=choices[0]["finish_reason"])
    if "tool_calls" in choices[0]:
        output["tool_calls"] = choices[0]["tool_calls"]
    if is_conversation:
        output["messages"] = [answer.as_turn() for answer in answers]
    if len(choices) > 1:
        output["choices"] = choices
    return output
