"""What one attempt of one job has said: what is yet to be written, and all of it for those who come late."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.base import JsonObject
from schemas.events import Envelope, EventType, Token, ToolCallPiece
from storage.event_log.port import SNAPSHOT_ENTRIES
from tasks.audience import Audience

OVERTAKEN = frozenset({EventType.PROGRESS, EventType.PREVIEW})
"""Of these, while nobody follows, only the newest is written."""


@dataclass(slots=True)
class _Said:
    type: EventType
    at: float
    data: JsonObject


@dataclass(slots=True)
class _Answer:
    """One choice, as far as it has come."""

    pieces: list[str] = field(default_factory=list)
    calls: dict[int, JsonObject] = field(default_factory=dict)

    def as_json(self) -> JsonObject:
        return {"text": "".join(self.pieces), "tool_calls": [dict(call) for call in self.calls.values()]}


class Story:
    """What one attempt of one job has said; `note` hears of all that is to be written, and how urgent it is."""

    def __init__(self, job_id: str, attempt: int, note: Callable[..., None]) -> None:
        self._note = note
        self.job_id = job_id
        self.attempt = attempt
        self._seq = 0
        self._answers: dict[int, _Answer] = {}
        self._said: list[_Said] = []
        self._open: dict[int, _Said] = {}  # each choice's last piece, while it can still grow
        self._since_snapshot = 0
        self.is_torn = False
        """Some of it never reached the log, so all of it must be told once more."""
        self.is_over = False
        self.audience = Audience()

    def say(self, event_type: EventType, data: JsonObject, *, urgent: bool = False) -> None:
        """Have an event written soon, or now."""
        self._open.clear()
        self.is_over = event_type is EventType.FINISHED
        if event_type in OVERTAKEN and not self.audience.is_there:
            self._said = [one for one in self._said if one.type is not event_type]
        self._said.append(_Said(event_type, time.time(), data))
        self._note(self, urgent=urgent)

    def say_token(self, token: Token) -> None:
        """Add to the text of a choice; a job's first piece is urgent, the others join what is not yet written."""
        is_first = not self._answers
        self._answer(token.choice).pieces.append(token.text)
        last = self._open.get(token.choice)
        if last is not None and last.type is EventType.TOKEN:
            last.data["text"] += token.text
        else:
            self._begin_piece(EventType.TOKEN, token.choice, {"text": token.text})
        self._note(self, urgent=is_first)

    def say_tool_call(self, piece: ToolCallPiece) -> None:
        """Add to a call that a choice wants made."""
        is_first = not self._answers
        call = self._answer(piece.choice).calls.setdefault(piece.index, {"index": piece.index})
        _extend(call, piece)
        last = self._open.get(piece.choice)
        if last is None or last.type is not EventType.TOOL_CALL or last.data["index"] != piece.index:
            last = self._begin_piece(EventType.TOOL_CALL, piece.choice, {"index": piece.index})
        _extend(last.data, piece)
        self._note(self, urgent=is_first)

    def take(self) -> list[Envelope]:
        """Return what is to be written, in its order."""
        said, self._said = self._said, []
        self._open.clear()
        if self.is_torn or self._since_snapshot + len(said) >= SNAPSHOT_ENTRIES:
            self._add_snapshot(said)
        self._since_snapshot += len(said)
        envelopes = [
            Envelope(self.attempt, self._seq + number, one.type, one.at, one.data)
            for number, one in enumerate(said, start=1)
        ]
        self._seq += len(said)
        return envelopes

    def _answer(self, choice: int) -> _Answer:
        answer = self._answers.get(choice)
        if answer is None:
            answer = self._answers[choice] = _Answer()
        return answer

    def _begin_piece(self, event_type: EventType, choice: int, data: JsonObject) -> _Said:
        if choice:
            data["choice"] = choice
        piece = self._open[choice] = _Said(event_type, time.time(), data)
        self._said.append(piece)
        return piece

    def _add_snapshot(self, said: list[_Said]) -> None:
        """Tell everything so far once more, just before the end when the end is among what was said."""
        is_ended = bool(said) and said[-1].type is EventType.FINISHED
        said.insert(len(said) - is_ended, _Said(EventType.SNAPSHOT, time.time(), self._snapshot()))
        self.is_torn = False
        self._since_snapshot = -len(said)

    def _snapshot(self) -> JsonObject:
        """Return all output so far; `choices` only where one plain text does not say it all."""
        choices = [self._answers.get(index, _Answer()).as_json() for index in range(max(self._answers, default=0) + 1)]
        snapshot: JsonObject = {"text": choices[0]["text"]}
        if len(choices) > 1 or choices[0]["tool_calls"]:
            snapshot["choices"] = choices
        return snapshot


def _extend(call: JsonObject, piece: ToolCallPiece) -> None:
    """Let a call, or an unwritten piece of it, grow by another piece."""
    if piece.id is not None:
        call["id"] = piece.id
    if piece.name is not None:
        call["name"] = piece.name
    if piece.arguments:
        call["arguments"] = call.get("arguments", "") + piece.arguments
