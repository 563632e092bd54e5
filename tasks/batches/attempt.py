"""One attempt of one line, from its input to its answer, or back to the queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from schemas.base import JsonObject
from schemas.batches import Endpoint, LineStatus
from schemas.catalog import Catalog
from schemas.embedding import EmbeddingInput
from schemas.errors import CallerError, EngineDeadError, EngineError, JobTimeoutError
from schemas.events import Finished, Produced
from schemas.jobs import Kind, Policy
from schemas.text import TextInput
from storage.batch_lines import ClaimedLine, LineRelease
from storage.batches import BatchRow
from tasks.batches.answers import new_answer_id, read_custom_id, render_answer
from tasks.batches.inputs import Inputs
from tasks.counting import Counting
from tasks.doors.bodies import Asked, Made, read_line, refuse_line
from tasks.engine import Engine, EngineRequest, EngineState
from tasks.gate import Place
from tasks.inputs import Input
from tasks.logs import get_logger
from tasks.retry import as_job_error, delay_before_next

MAX_ATTEMPTS = Policy().max_attempts

log = get_logger(__name__)


def weight_of(given: Input) -> int:
    """Return how many places an input takes: engines count answers and images, but not the texts of an embedding."""
    return 1 if isinstance(given, EmbeddingInput) else given.n


class LineStop(Enum):
    """Why an attempt is stopped from outside."""

    HANDED_BACK = auto()  # somebody else runs it, or this process later
    VOID = auto()  # it has ended, or it is somebody else's by now


@dataclass(frozen=True, slots=True)
class EndedLine:
    """A line that has its answer."""

    line: ClaimedLine
    status: LineStatus
    answer: bytes
    usage: JsonObject = field(default_factory=dict)


class LineAttempt:
    """What a worker does with a line that it has claimed. It lives in the engine's loop."""

    def __init__(
        self,
        line: ClaimedLine,
        batch: BatchRow,
        place: Place,
        engine: Engine,
        *,
        catalog: Catalog,
        counting: Counting | None,
        seconds: float,
        on_weight: Callable[[int], None],
    ) -> None:
        self.line = line
        self.batch = batch
        self._endpoint = Endpoint(batch.endpoint)
        self._place = place
        self._engine = engine
        self._catalog = catalog
        self._counting = counting
        self._on_weight = on_weight
        self._limit = asyncio.timeout(seconds)  # moved to now by whoever stops the attempt
        self._is_limited = False
        self._stop: LineStop | None = None
        self._answer_id = new_answer_id()
        self.weight = 1
        """How many of the engine's places it takes: one until it is read."""

    def stop(self, why: LineStop) -> None:
        """End the attempt as soon as possible; VOID beats the other."""
        if self._stop is not LineStop.VOID:
            self._stop = why
        if self._is_limited and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())

    async def run(self, inputs: Inputs) -> EndedLine | LineRelease | None:
        """Run the line; nothing comes of one that is void or lost with its engine."""
        given: bytes | None = None
        try:
            async with self._limit:
                self._is_limited = True
                try:
                    given = await inputs.read(self.batch.id, self.line.chunk, self.line.place)
                    return await self._answer(given, inputs)
                finally:
                    self._is_limited = False
        except EngineDeadError:
            raise
        except Exception as raised:  # noqa: BLE001 - whatever an engine raises ends its own line only
            if self._stop is not None:
                return self._hand_back() if self._stop is LineStop.HANDED_BACK else None
            if given is None:
                return self._hand_back()  # the store was sick all the time, which is not the line's fault
            return self._fail(given, JobTimeoutError() if self._limit.expired() else raised)

    def _hand_back(self) -> LineRelease:
        return LineRelease(self.line.id, self.line.attempt)

    async def _answer(self, given: bytes, inputs: Inputs) -> EndedLine:
        if self._stop is not None:
            raise TimeoutError  # it was stopped before it began
        asked = await self._read(given, inputs)
        if self._counting is not None and isinstance(asked.input, TextInput):
            judged, _ = await self._counting.judge(asked.input, asked.model)
            asked = replace(asked, input=judged)
        self.weight = weight_of(asked.input)
        self._on_weight(self.weight)
        produced: list[Produced] = []
        finished = await self._run_engine(self._request(asked), produced)
        made = Made(self._answer_id, time.time(), finished.output, finished.usage, produced)
        answer = render_answer(self._answer_id, asked.custom_id, 200, asked.answer(made))
        return EndedLine(self.line, LineStatus.SUCCEEDED, answer, finished.usage)

    async def _read(self, given: bytes, inputs: Inputs) -> Asked:
        try:
            return read_line(self._endpoint, given, self._catalog)
        except CallerError:
            meanings = await inputs.meanings(self.batch.id)  # perhaps it names an adapter of its caller
            if not meanings:
                raise
        return read_line(self._endpoint, given, self._catalog, meanings)

    def _request(self, asked: Asked) -> EngineRequest:
        given = asked.input.model_dump(mode="json", exclude_defaults=True)
        if asked.model.kind is Kind.TEXT:
            given["stream"] = False
        return EngineRequest(f"line_{self.line.id}", self.line.attempt, asked.model.kind.value, given)

    async def _run_engine(self, request: EngineRequest, produced: list[Produced]) -> Finished:
        engine, finished = self._engine, None
        asyncio.get_running_loop().call_soon(self._note_beginning)  # its first step is over by then
        try:
            async with aclosing(engine.run(request)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        finished = event
                    elif isinstance(event, Produced):
                        produced.append(event)
        except EngineDeadError:
            engine.state = EngineState.DEAD
            raise
        finally:
            self._place.end(engine.capacity())
        if finished is None:
            raise EngineError("The engine ended without an answer.")
        return finished

    def _note_beginning(self) -> None:
        if self._is_limited:
            self._place.begin(self._engine.capacity())

    def _fail(self, given: bytes, raised: Exception) -> EndedLine | LineRelease:
        error = raised if isinstance(raised, CallerError) else as_job_error(raised)
        if error is not raised:
            log.error("A line failed as none should.", line=self.line.id, exc_info=raised)
        delay = delay_before_next(error, self.line.errors, MAX_ATTEMPTS)
        if delay is not None:
            return LineRelease(self.line.id, self.line.attempt, run_again_in_seconds=delay, counts_as_error=True)
        status, body = refuse_line(self._endpoint, error, self._answer_id)
        answer = render_answer(self._answer_id, read_custom_id(given), status, body)
        return EndedLine(self.line, LineStatus.FAILED, answer)
