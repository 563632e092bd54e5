"""The engine's part of an attempt: run it, pass on what it says, count its place at the gate."""

from __future__ import annotations

import asyncio
import base64
import time
from contextlib import aclosing
from dataclasses import dataclass, field

from schemas.errors import EngineDeadError, EngineError
from schemas.events import EngineEvent, EventType, Finished, Log, Preview, Produced, ProgressMade, Token, ToolCallPiece
from tasks.engine import Engine, EngineRequest, EngineState
from tasks.gate import Place
from tasks.story import Story


@dataclass(slots=True)
class Performance:
    """What an engine gives for one attempt."""

    story: Story
    began_at: float = 0.0
    produced: list[Produced] = field(default_factory=list)
    finished: Finished | None = None
    first_token_at: float | None = None
    ended_at: float = 0.0

    async def run(self, engine: Engine, request: EngineRequest, place: Place) -> Finished:
        """Run the engine to its answer, which is returned; cancelling this aborts it."""
        has_begun = False
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
            case Preview(content, content_type):
                picture = base64.b64encode(content).decode()
                self.story.say(EventType.PREVIEW, {"content_type": content_type, "base64": picture})
            case Log(message):
                self.story.say(EventType.LOG, {"message": message})
            case Produced():
                self.produced.append(event)
            case Finished():
                self.finished = event
