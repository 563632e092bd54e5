"""The part of an attempt that happens in the engine's event loop: run the engine, pass on what it says."""

from __future__ import annotations

import asyncio
import base64
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

from schemas.base import JsonObject
from schemas.errors import EngineDeadError, EngineError, JobTimeoutError
from schemas.events import EngineEvent, EventType, Finished, Log, Preview, Produced, ProgressMade, Token
from tasks.engine import Engine, EngineRequest, EngineState
from tasks.event_writer import EventWriter, Story

if TYPE_CHECKING:
    from tasks.attempt import Attempt


@dataclass(slots=True)
class Performance:
    """What an engine gave for one attempt."""

    story: Story
    began_at: float
    produced: list[Produced] = field(default_factory=list)
    finished: Finished | None = None
    first_token_at: float | None = None
    ended_at: float = 0.0


class Stage:
    """Where engines perform: one event loop with one engine and one event writer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, engine: Engine, writer: EventWriter) -> None:
        self.loop = loop
        self.engine = engine
        self.writer = writer

    def perform(self, attempt: Attempt, given: JsonObject) -> Performance:
        """Run an attempt from a thread and wait for what comes of it."""
        done: SimpleQueue[asyncio.Task[Performance]] = SimpleQueue()  # half the cost of a concurrent future
        self.loop.call_soon_threadsafe(self._begin, attempt, given, done)
        return done.get().result()

    def abort(self, attempt: Attempt) -> None:
        """Have the engine drop an attempt; whoever waits for it gets `Stopped`."""
        self.loop.call_soon_threadsafe(self._abort, attempt)

    def _begin(self, attempt: Attempt, given: JsonObject, done: SimpleQueue[asyncio.Task[Performance]]) -> None:
        attempt.task = self.loop.create_task(self._perform(attempt, given))
        attempt.task.add_done_callback(done.put)

    async def _perform(self, attempt: Attempt, given: JsonObject) -> Performance:
        job = attempt.job
        attempt.check()
        story = self.writer.open(job.id, job.attempt)
        story.say(EventType.STARTED if job.attempt == 1 else EventType.RESTARTED, {})
        performance = attempt.performance = Performance(story, time.monotonic())
        self.loop.call_soon(self._note_beginning, attempt)  # the engine's first step is over by then
        limit = asyncio.timeout(attempt.seconds_left())
        try:
            async with limit:
                await self._listen(performance, EngineRequest(job.id, job.attempt, job.kind, given))
        except TimeoutError:
            if not limit.expired():
                raise
            raise JobTimeoutError from None
        except asyncio.CancelledError:
            attempt.check()
            raise
        except EngineDeadError:
            self.engine.state = EngineState.DEAD
            raise
        finally:
            attempt.task = None
            performance.ended_at = time.monotonic()
            attempt.place.end(self.engine.capacity())
        attempt.check()
        if performance.finished is None:
            raise EngineError("The engine ended without an answer.")
        return performance

    def _note_beginning(self, attempt: Attempt) -> None:
        if attempt.task is not None:
            attempt.place.begin(self.engine.capacity())

    async def _listen(self, performance: Performance, request: EngineRequest) -> None:
        async with aclosing(self.engine.run(request)) as events:
            async for event in events:
                if performance.finished is not None:
                    raise EngineError("The engine went on after its answer.")
                self._pass_on(performance, event)

    def _pass_on(self, performance: Performance, event: EngineEvent) -> None:
        story = performance.story
        match event:
            case Token(text):
                if performance.first_token_at is None:
                    performance.first_token_at = time.monotonic()
                story.say_token(text)
            case ProgressMade(fraction, stage):
                story.say(EventType.PROGRESS, {"fraction": fraction, "stage": stage})
            case Preview(content, content_type):
                picture = base64.b64encode(content).decode()
                story.say(EventType.PREVIEW, {"content_type": content_type, "base64": picture})
            case Log(message):
                story.say(EventType.LOG, {"message": message})
            case Produced():
                performance.produced.append(event)
            case Finished():
                performance.finished = event

    def _abort(self, attempt: Attempt) -> None:
        if attempt.task is not None:
            self.loop.create_task(self._abort_in_engine(attempt.job.id, attempt.task))

    async def _abort_in_engine(self, job_id: str, task: asyncio.Task[object]) -> None:
        await self.engine.abort(job_id)
        task.cancel()
