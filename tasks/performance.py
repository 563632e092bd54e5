"""The engine's part of an attempt: run it, pass on what it says, count its place at the gate."""

from __future__ import annotations

import asyncio
import base64
import time
from contextlib import aclosing
from dataclasses import dataclass, field

from schemas.base import JsonObject
from schemas.errors import EngineDeadError, EngineError
from schemas.events import EngineEvent, EventType, Finished, Log, Preview, Produced, ProgressMade, Token, ToolCallPiece
from tasks.engine import Engine, EngineRequest, EngineState
from tasks.gate import Place
from tasks.story import Story

PREVIEW_BYTES = 64 * 1024
"""A larger preview is not shown."""


@dataclass(slots=True)
class Performance:
    """What an engine gives for one attempt."""

    story: Story
    began_at: float = 0.0
    produced: list[Produced] = field(default_factory=list)
    finished: Finished | None = None
    first_token_at: float | None = None
    ended_at: float = 0.0
    is_silent: bool = False
    """The engine says all tokens at once in the end, because nobody asked for them one by one."""

    async def run(self, engine: Engine, request: EngineRequest, place: Place) -> Finished:
        """Run the engine to its answer, which is returned; cancelling this aborts it."""
        has_begun = False
        self.is_silent = request.input.get("stream") is False
        self.began_at = time.monotonic()
        asyncio.get_running_loop().call_soon(self._note_beginning, engine, place)  # its first step is over by then
        try:
            async with aclosing(engine.run(request)) as events:
                async for event in events:
                    if self.finished is not None:
                        raise EngineError("The engine went on after its answer.")
                    self._pass_on(event)
                    if not has_begun and isinstance(event, Token | ToolCallPiece):
                        has_begun = True
                        place.begin(engine.capacity())  # what was read is no load any more
        except EngineDeadError:
            engine.state = EngineState.DEAD
            raise
        finally:
            self.ended_at = time.monotonic()
            place.end(engine.capacity())
        if self.finished is None:
            raise EngineError("The engine ended without an answer.")
        return self.finished

    def measure(self, queue_ms: float, tokens: int) -> JsonObject:
        """Return how fast so many tokens came, as far as it is known; `ttft_ms` counts from the submit, as callers do.

        What the engine itself has measured counts before our own clock.
        """
        if not self.ended_at:
            return {}
        seconds = self.ended_at - self.began_at
        metrics: JsonObject = {"run_ms": _milliseconds(seconds)}
        if self.first_token_at is not None:
            prefill, decode = self.first_token_at - self.began_at, self.ended_at - self.first_token_at
            metrics["prefill_ms"], metrics["decode_ms"] = _milliseconds(prefill), _milliseconds(decode)
            metrics["ttft_ms"] = round(queue_ms + prefill * 1000, 1)
            if tokens > 1:
                metrics["time_per_output_token_ms"] = round(decode * 1000 / (tokens - 1), 2)
        if tokens and seconds > 0:
            metrics["tokens_per_second"] = round(tokens / seconds, 1)
        measured = self.finished.metrics if self.finished else {}
        images = self.finished.usage.get("images") if self.finished else None
        if images and seconds > 0:
            metrics["images_per_second"] = round(images / seconds, 2)
        if self.is_silent and "prefill_ms" in measured:
            metrics["ttft_ms"] = round(queue_ms + measured.get("engine_queue_ms", 0.0) + measured["prefill_ms"], 1)
        return metrics | measured

    def _note_beginning(self, engine: Engine, place: Place) -> None:
        if not self.ended_at:
            place.begin(engine.capacity())

    def _note_token(self) -> None:
        if self.first_token_at is None:
            self.first_token_at = time.monotonic()

    def _pass_on(self, event: EngineEvent) -> None:
        match event:
            case Token("", _):
                pass  # the first one is there, and no whole character yet
            case Token():
                self._note_token()
                self.story.say_token(event)
            case ToolCallPiece():
                self._note_token()
                self.story.say_tool_call(event)
            case ProgressMade(fraction, stage):
                self.story.say(EventType.PROGRESS, {"fraction": fraction, "stage": stage})
            case Preview(content, _) if len(content) > PREVIEW_BYTES:
                pass  # every reader would get it, and Redis hold it
            case Preview(content, content_type):
                picture = base64.b64encode(content).decode()
                self.story.say(EventType.PREVIEW, {"content_type": content_type, "base64": picture})
            case Log(message):
                self.story.say(EventType.LOG, {"message": message})
            case Produced():
                self.produced.append(event)
            case Finished():
                self.finished = event


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
