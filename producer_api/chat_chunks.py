"""A text job's events as the chunks of OpenAI's stream: what was sent stays true, or the stream ends with an error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from json import JSONEncoder
from typing import Any

from pydantic_core import from_json

from schemas.base import JsonObject
from schemas.errors import EngineFailedError
from schemas.events import Envelope, EventType
from storage.rows import JobRow
from tasks.doors.chat import Heading, choices_of, usage_of

ENCODE = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
DONE = b"data: [DONE]\n\n"
VOID = (
    "The worker was lost in the middle of this answer and the next one answered otherwise, so it cannot be continued; "
    "send the request again."
)


class Strand:
    """One text on its way to a client: a new attempt is swallowed as far as it says what was sent before."""

    __slots__ = ("_heard", "sent")

    def __init__(self) -> None:
        self.sent = ""
        self._heard = 0

    def restart(self) -> None:
        """Hear everything once more."""
        self._heard = 0

    def hear(self, piece: str) -> str:
        """Return what of a piece is new."""
        known = self.sent[self._heard : self._heard + len(piece)]
        if not piece.startswith(known):
            raise EngineFailedError(VOID)
        self._heard += len(piece)
        new = piece[len(known) :]
        self.sent += new
        return new

    def hear_all(self, text: str) -> str:
        """Return what of the whole text is new."""
        if len(text) < len(self.sent):
            raise EngineFailedError(VOID)
        self.restart()
        return self.hear(text)


class Call:
    """One call on its way to a client."""

    __slots__ = ("arguments", "name")

    def __init__(self) -> None:
        self.name: str | None = None
        self.arguments = Strand()

    def hear(self, piece: Mapping[str, Any], new_arguments: str) -> JsonObject | None:
        """Return what of a piece is new; a call keeps the id under which it was first told."""
        name = piece.get("name")
        if self.name is None and name is not None:
            self.name = name
            function = {"name": name, "arguments": new_arguments}
            return {"index": piece["index"], "id": piece.get("id"), "type": "function", "function": function}
        if name not in (None, self.name):
            raise EngineFailedError(VOID)
        return {"index": piece["index"], "function": {"arguments": new_arguments}} if new_arguments else None


class Chunks:
    """Tells one job's answers."""

    def __init__(self, heading: Heading, choices: int, *, with_usage: bool) -> None:
        head = ENCODE(heading.as_json("chat.completion.chunk"))[:-1]
        self._before = f'data: {head},"choices":['
        self._after = '],"usage":null}\n\n' if with_usage else "]}\n\n"
        self._with_usage = with_usage
        self._texts = [Strand() for _ in range(choices)]
        self._calls: dict[tuple[int, int], Call] = {}
        self._attempt = 0
        self._seq = 0
        self._is_whole = True

    def begin(self) -> bytes:
        """Return what comes before all words."""
        return b"".join(self._chunk(index, {"role": "assistant", "content": ""}) for index in range(len(self._texts)))

    def hear(self, news: Iterable[Envelope]) -> bytes:
        """Return what is new in a job's next events."""
        return b"".join(chunk for envelope in news for chunk in self._hear(envelope))

    def finish(self, row: JobRow, output: JsonObject) -> bytes:
        """Return what is still to be said when the job has succeeded, whatever was heard of it."""
        choices = choices_of(output)
        chunks = [chunk for index, choice in enumerate(choices) for chunk in self._hear_choice(index, choice)]
        chunks += [self._chunk(index, {}, choice["finish_reason"]) for index, choice in enumerate(choices)]
        if self._with_usage:
            chunks.append(f'{self._before}],"usage":{ENCODE(usage_of(from_json(row.usage or "{}")))}}}\n\n'.encode())
        return b"".join((*chunks, DONE))

    def _hear(self, envelope: Envelope) -> Iterator[bytes]:
        if envelope.attempt != self._attempt:
            self._attempt, self._seq, self._is_whole = envelope.attempt, 0, True
            self._restart()
        self._is_whole = envelope.type is EventType.SNAPSHOT or (self._is_whole and envelope.seq == self._seq + 1)
        self._seq = envelope.seq
        if not self._is_whole:
            return  # something was lost before it: a snapshot or the end will tell it all
        data = envelope.data
        if envelope.type is EventType.TOKEN:
            yield from self._hear_text(data.get("choice", 0), data["text"])
        elif envelope.type is EventType.TOOL_CALL:
            yield from self._hear_call(data.get("choice", 0), data)
        elif envelope.type is EventType.SNAPSHOT:
            self._restart()
            for index, choice in enumerate(data.get("choices") or [data]):
                yield from self._hear_text(index, choice["text"])
                for call in choice.get("tool_calls", ()):
                    yield from self._hear_call(index, call)

    def _restart(self) -> None:
        for strand in (*self._texts, *(call.arguments for call in self._calls.values())):
            strand.restart()

    def _hear_text(self, index: int, text: str) -> Iterator[bytes]:
        if new := self._texts[index].hear(text):
            yield self._chunk(index, {"content": new})

    def _hear_call(self, index: int, piece: JsonObject) -> Iterator[bytes]:
        call = self._calls.setdefault((index, piece["index"]), Call())
        if delta := call.hear(piece, call.arguments.hear(piece.get("arguments", ""))):
            yield self._chunk(index, {"tool_calls": [delta]})

    def _hear_choice(self, index: int, choice: JsonObject) -> Iterator[bytes]:
        if new := self._texts[index].hear_all(choice["text"]):
            yield self._chunk(index, {"content": new})
        calls = choice.get("tool_calls", ())
        if sum(choice_index == index for choice_index, _ in self._calls) > len(calls):
            raise EngineFailedError(VOID)
        for number, told in enumerate(calls):
            call = self._calls.setdefault((index, number), Call())
            piece = {"index": number, "id": told["id"], **told["function"]}
            if delta := call.hear(piece, call.arguments.hear_all(piece["arguments"])):
                yield self._chunk(index, {"tool_calls": [delta]})

    def _chunk(self, index: int, delta: JsonObject, finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return f"{self._before}{ENCODE(choice)}{self._after}".encode()
