"""The text engine: many prompts in one common batch, answered token by token.

What decodes (vLLM) is behind the `Decoder` port, in a process of its own; here are the books: who is inside, what they
have yet to read, what they have said and used, and what happens when one is stopped or the decoder dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, nullcontext
from functools import partial
from typing import Any, Protocol, TypeVar

from schemas.base import JsonObject
from schemas.catalog import Model
from schemas.errors import EngineDeadError, EngineError, EngineRefusedError
from schemas.events import EngineEvent, Finished, Token, ToolCallPiece
from schemas.text import TextInput
from tasks.adapters import AdapterFile, AdapterSource
from tasks.audience import Audience
from tasks.engine import Capacity, EngineRequest, EngineState
from tasks.logs import get_logger
from workers.engines.adapters import Residents
from workers.engines.answer import Answer, as_output
from workers.engines.inputs import read_input
from workers.engines.intake import Intake, Visit
from workers.engines.pacing import Pacing, Turn
from workers.engines.text_options import TextOptions, read_text_options

CHARACTERS_PER_TOKEN = 4
"""What a prompt weighs at the gate before its tokens are counted."""
SHORT_CHARACTERS = 2_000
"""A plain prompt up to this long is read at once: that takes less than a thread's wake-ups do."""
STEPS_AHEAD = 2
"""So many of the largest steps may wait to be read."""
UNKNOWN = 1
COMPILERS = 2
"""So many schemas are compiled at once; a thread cannot be stopped, so more of the evil kind would take more cores."""
ABORTED, FAILED = "abort", "error"

Result = TypeVar("Result")
log = get_logger(__name__)


class Piece(Protocol):
    """What a step adds to one answer."""

    index: int
    text: str
    token_ids: Sequence[int]
    finish_reason: str | None


class Step(Protocol):
    """What a step adds to a request's answers."""

    outputs: Sequence[Piece]
    num_cached_tokens: int | None
    metrics: Any


class Reader(Protocol):
    """Splits what one answer says into text and calls."""

    def read(self, text: str, token_ids: Sequence[int], *, is_last: bool) -> Iterator[Token | ToolCallPiece]:
        """Return what another piece says."""


class Tools(Protocol):
    """How a request's calls are read."""

    def reader(self, choice: int, prompt: Sequence[int]) -> Reader:
        """Return a reader for one of the answers."""


class Plan(Protocol):
    """A request as the decoder wants it."""

    @property
    def tokens(self) -> Sequence[int]:
        """The prompt."""

    @property
    def tools(self) -> Tools | None:
        """The tools, where there are any."""

    @property
    def is_structured(self) -> bool:
        """Whether the answer is held to something that must be compiled first."""


class Decoder(Protocol):
    """What decodes. Made in a thread; `prepare`, `compile`, `close` are called in threads, the others in the loop."""

    step_tokens: int

    def watch(self, on_end: Callable[[], None]) -> None:
        """Have its unexpected end told."""

    async def load_adapter(self, file: AdapterFile) -> Any:
        """Make an adapter resident; what it returns `prepare` is given."""

    async def drop_adapter(self, adapter: Any) -> None:
        """Forget one that nobody uses."""

    def prepare(self, given: TextInput, adapter: Any = None) -> Any:
        """Return a Plan, or refuse."""

    def compile(self, plan: Any) -> None:
        """Compile what the answer is held to, or refuse."""

    def decode(self, name: str, plan: Any, rank: float | None) -> AsyncGenerator[Any, None]:
        """Yield Steps; closing it aborts. While not all find memory, the smallest rank goes first."""

    def pace(self, name: str, tokens: int) -> None:
        """Have a running request's tokens handed out so many together; its first and last ones come all the same."""

    async def abort(self, name: str) -> None:
        """End a request; its last step says `abort`."""

    def describe(self) -> JsonObject:
        """Say how and how busy."""

    def close(self) -> None:
        """End its processes."""


class Conversation:
    """One request from its prompt to its answers."""

    def __init__(self, request: EngineRequest, given: TextInput, visit: Visit) -> None:
        self.name = f"{request.job_id}-{request.attempt}"
        self.given = given
        self.usage = request.usage
        self.visit = visit
        self.is_aborted = False
        self.is_plain = given.n == 1
        """One answer that is all text: what is handed out together need not be told apart."""
        self.answers = [Answer() for _ in range(given.n)]
        self._last: Step | None = None
        self._readers: list[Reader | None] = [None] * given.n

    def begin(self, plan: Plan) -> None:
        """Take in what the prompt was read to."""
        self.visit.count(len(plan.tokens))
        self.usage |= {"prompt_tokens": len(plan.tokens), "completion_tokens": 0}
        if plan.tools is not None:
            self.is_plain = False
            self._readers = [plan.tools.reader(choice, plan.tokens) for choice in range(self.given.n)]

    def hear(self, step: Step) -> Iterator[Token | ToolCallPiece]:
        """Take in a step; yield what it says, or an empty token when the first one is no whole character yet."""
        is_silent = self._last is None
        if is_silent:
            self.visit.begin()
        self._last = step
        self.usage["completion_tokens"] += sum(len(piece.token_ids) for piece in step.outputs)
        self.count()
        for piece in step.outputs:
            if piece.finish_reason in (ABORTED, FAILED) and not self.is_aborted:
                raise EngineError("The engine broke this answer off; what it had said is void.")
            answer = self.answers[piece.index]
            answer.reason = piece.finish_reason
            for said in self._read(piece):
                answer.add(said)
                is_silent = False
                yield said
        if is_silent:
            yield Token("")

    def count(self) -> None:
        """Count what was produced by now, whether it has been handed out or not."""
        if self.is_plain and self._last is not None and self._last.metrics is not None:
            self.usage["completion_tokens"] = self._last.metrics.num_generation_tokens  # they grow with each token

    def finish(self) -> Finished:
        """Return the end, with the figures of the last step."""
        if self._last is None:
            raise EngineError("The engine ended without an answer.")
        cached = {"cached_prompt_tokens": self._last.num_cached_tokens or 0}
        output = as_output(self.answers, is_conversation=self.given.messages is not None)
        return Finished({**output}, usage=self.usage | cached, metrics=_figures(self._last.metrics) | cached)

    def _read(self, piece: Piece) -> Iterator[Token | ToolCallPiece]:
        reader = self._readers[piece.index]
        if reader is not None:
            yield from reader.read(piece.text, piece.token_ids, is_last=piece.finish_reason is not None)
        elif piece.text:
            yield Token(piece.text, piece.index)


class TextEngine:
    """Runs text jobs on one model."""

    def __init__(self, model: Model, make_decoder: Callable[[TextOptions], Decoder], adapters: AdapterSource) -> None:
        self.state = EngineState.NEW
        self._options = read_text_options(model)
        self._make_decoder = make_decoder
        self._alias = model.alias
        self._adapters = list(model.adapters)
        self._slots = model.max_in_flight
        self._intake = Intake(model.max_in_flight, self._options.waiting_tokens or UNKNOWN)
        self._inside: dict[str, Conversation] = {}
        self._pacing = Pacing()
        self._reading = ThreadPoolExecutor(1, "read")
        self._compiling = ThreadPoolExecutor(COMPILERS, "compile")
        self._residents = Residents[Any](
            adapters, self._load_adapter, self._options.max_resident_adapters, self._drop_adapter
        )
        self._dropping: set[asyncio.Task[None]] = set()
        self._decoder: Decoder | None = None

    async def load(self) -> None:
        """Bring the model into memory; imports and the start of another process take longest."""
        self.state = EngineState.LOADING
        self._decoder = decoder = await self._in_thread(self._make)
        self._intake.most_unread = self._options.waiting_tokens or STEPS_AHEAD * decoder.step_tokens
        decoder.watch(self._die)
        await self._residents.preload(self._adapters)
        log.info("The model is loaded.", model=self._alias, **decoder.describe())

    async def warm_up(self, example: JsonObject | None) -> None:
        """Run the example, plainly and with each adapter."""
        self.state = EngineState.WARMING
        for adapter in (None, *self._adapters) if example is not None else ():
            given = {**(example or {}), "adapter": adapter}
            async for _ in self.run(EngineRequest("warm-up", 1, "text", given)):
                pass
        self.state = EngineState.READY

    def capacity(self) -> Capacity:
        """Count the free places; there are none while too much waits to be read."""
        return Capacity(free=self._intake.free(), slots=self._slots)

    async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Run a request in the company of all others."""
        given = read_input(request, TextInput.model_validate)
        visit = self._intake.enter(given.n, len(given.text) // CHARACTERS_PER_TOKEN + 1)
        conversation = self._inside[request.job_id] = Conversation(request, given, visit)
        try:
            async with self._residents.hold([given.adapter] if given.adapter else []) as held:
                decoder = self._living()
                adapters = [adapter for _, adapter in held]
                plan = await self._prepare(decoder, given, adapters)
                conversation.begin(plan)
                if plan.is_structured:
                    await self._compile(decoder, plan)
                if conversation.is_aborted:
                    return
                async with aclosing(decoder.decode(conversation.name, plan, request.rank)) as steps:
                    with self._turn(decoder, conversation, request.audience) as turn:
                        async for step in steps:
                            for said in conversation.hear(step):
                                yield said
                            if turn is not None:
                                turn.rest()
                if not conversation.is_aborted:
                    yield conversation.finish()
        finally:
            conversation.count()
            visit.leave()
            if self._inside.get(request.job_id) is conversation:
                del self._inside[request.job_id]

    async def abort(self, job_id: str) -> None:
        """End a request's run without an answer."""
        if job_id in self._inside:
            conversation = self._inside[job_id]
            conversation.is_aborted = True
            await self._living().abort(conversation.name)

    def adapters(self) -> frozenset[str]:
        """Return the ids of the adapters in memory."""
        return self._residents.ids

    def stats(self) -> JsonObject:
        """Return how the model runs, how much waits and how full the batch is."""
        said = self._decoder.describe() if self._decoder is not None else {}
        books = {"batch": len(self._inside), "waiting_tokens": self._intake.unread}
        return said | books | {"adapters": sorted(self._residents.ids)}

    async def close(self) -> None:
        """End what computes; whoever is still inside is aborted."""
        for job_id in list(self._inside):
            await self.abort(job_id)
        self.state = EngineState.DEAD
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            await self._in_thread(decoder.close)
        for threads in (self._reading, self._compiling):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _prepare(self, decoder: Decoder, given: TextInput, adapters: Sequence[Any]) -> Plan:
        is_plain = not given.tools and given.response_format is None
        if is_plain and len(given.text) <= SHORT_CHARACTERS:
            plan: Plan = decoder.prepare(given, *adapters)
            return plan
        return await self._in_thread(decoder.prepare, given, *adapters)

    def _turn(
        self, decoder: Decoder, conversation: Conversation, audience: Audience
    ) -> AbstractContextManager[Turn | None]:
        """Have a request speak for those who follow it, where its words may come together."""
        if not (conversation.is_plain and conversation.given.stream):
            return nullcontext()
        return self._pacing.turn(audience, partial(decoder.pace, conversation.name))

    async def _load_adapter(self, file: AdapterFile) -> Any:
        if self._dropping:  # their places are counted on
            await asyncio.wait(self._dropping)
        return await self._living().load_adapter(file)

    def _drop_adapter(self, adapter: Any) -> None:
        if self._decoder is not None:
            task = asyncio.get_running_loop().create_task(self._decoder.drop_adapter(adapter))
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)

    async def _in_thread(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._reading, work, *arguments)

    def _make(self) -> Decoder:
        decoder = self._make_decoder(self._options)
        if self.state is EngineState.DEAD:  # closed in the meantime: nobody else can end its processes
            decoder.close()
        return decoder

    def _living(self) -> Decoder:
        if self.state is EngineState.DEAD or self._decoder is None:
            raise EngineDeadError
        return self._decoder

    def _die(self) -> None:
        if self.state is not EngineState.DEAD:
            log.error("The process that decodes has ended.", model=self._alias)
            self.state = EngineState.DEAD

    async def _compile(self, decoder: Decoder, plan: Plan) -> None:
        seconds = self._options.schema_seconds
        compiling = asyncio.get_running_loop().run_in_executor(self._compiling, decoder.compile, plan)
        try:
            await asyncio.wait_for(compiling, seconds)
        except TimeoutError:
            raise EngineRefusedError(
                f"The schema was not compiled within {seconds:g} seconds; ask for fewer alternatives and repetitions."
            ) from None


def _figures(metrics: Any) -> JsonObject:
    """Return how long the parts of a request took, by the decoder's own clock."""
    if metrics is None:
        return {}
    decoded = metrics.last_token_ts - metrics.first_token_ts
    figures = {
        "engine_queue_ms": round((metrics.scheduled_ts - metrics.queued_ts) * 1000, 1),
        "prefill_ms": round((metrics.first_token_ts - metrics.scheduled_ts) * 1000, 1),
        "decode_ms": round(decoded * 1000, 1),
        "preemptions": metrics.num_preemptions,
    }
    if metrics.num_generation_tokens > 1:  # a single token has no time between tokens: 0 would be counted as one
        figures["time_per_output_token_ms"] = round(decoded * 1000 / (metrics.num_generation_tokens - 1), 2)
    return figures


def create(model: Model, device: str, locate: Callable[[str], str], adapters: AdapterSource) -> TextEngine:
    """Make the engine of a placement."""

    def make_decoder(options: TextOptions) -> Decoder:
        source = locate(model.source)  # first: a folder that is not there is told at once
        listed = {name: locate(adapter.source) for name, adapter in model.adapters.items()}
        # Imported by the thread that loads: vLLM takes seconds, in which the worker already says that it loads.
        from workers.engines.decoder import Setting, VllmDecoder  # noqa: PLC0415 - takes seconds

        return VllmDecoder(
            Setting(
                source,
                model.revision,
                device,
                model.max_in_flight,
                model.context_length,
                listed,
                model.uploaded_rank,
                options,
            )
        )

    return TextEngine(model, make_decoder, adapters)
