"""The embedding engine: texts of many jobs become vectors in shared steps, and nobody waits behind bulk.

Three places, so that none waits for another: the event loop keeps the books, one thread reads (text to tokens, vectors
to JSON), one thread computes. A step is never interrupted; whoever is aborted is left out of the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.base import JsonObject, Strict
from schemas.catalog import Model
from schemas.embedding import EmbeddingInput, Truncate
from schemas.errors import CatalogError, EngineDeadError, EngineError, EngineRefusedError, InputTooLongError
from schemas.events import EngineEvent, ProgressMade
from tasks.engine import Capacity, EngineRequest, EngineState
from tasks.logs import get_logger
from workers.engines.batching import Batchable, Lanes, Piece, StepBudget, padded_tokens
from workers.engines.inputs import read_input
from workers.engines.memory import trim_malloc
from workers.engines.options import read_options
from workers.engines.vectors import answer

CHUNK_TEXTS = 64
"""So many texts are read at once; then another job's have their turn."""
CHARACTERS_PER_TOKEN = 4
"""What a job weighs at the gate before its tokens are counted."""
PROGRESS_SECONDS = 0.5
TIDY_TEXTS = 64
"""After a job of so many texts the memory is tidied up, when its answer has been stored."""
TIDY_SECONDS = 3.0

Vectors = NDArray[np.float32]
log = get_logger(__name__)


class EmbeddingOptions(Strict):
    """What the catalog may say in `options`."""

    threads: int = Field(1, ge=1, description="Threads that compute; more than one only where cores are to spare.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    step_tokens: int = Field(4096, ge=32, description="The largest step, in tokens with padding.")
    waiting_tokens: int = Field(500_000, ge=1, description="The gate closes when so many tokens wait in the engine.")


class Encoder(Protocol):
    """What reads and computes."""

    limit: int
    dimensions: int
    step_tokens: int

    def read(self, text: str, *, cut: bool = False) -> Sequence[int]:
        """Return a text's tokens."""

    def encode(self, batch: Sequence[Sequence[int]]) -> Vectors:
        """Return a vector for each list of tokens."""

    def describe(self) -> JsonObject:
        """Say where and how."""


class Job(Batchable):
    """One request, from its texts to its vectors."""

    __slots__ = ("count", "done", "prompt_tokens", "vectors", "weight")

    def __init__(self, weight: int) -> None:
        super().__init__()
        self.weight = weight
        """A guess at the tokens, until they are counted."""
        self.count = 0
        self.prompt_tokens = 0
        self.vectors: list[Vectors | None] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, pieces: Sequence[Piece]) -> None:
        """Take in what the job's texts were read to."""
        self.add(pieces)
        self.prompt_tokens, self.weight = self.tokens, 0
        self.vectors = [None] * len(pieces)

    def take(self, index: int, vector: Vectors | Exception) -> None:
        """Take a result; the first failure ends the job, the last vector completes it."""
        if self.done.done():
            return
        if isinstance(vector, Exception):
            self.done.set_exception(vector)
            return
        self.vectors[index] = vector
        self.count += 1
        if self.count == len(self.vectors):
            self.done.set_result(None)


class EmbeddingEngine:
    """Runs embedding jobs on one model."""

    def __init__(self, model: Model, make_encoder: Callable[[EmbeddingOptions], Encoder]) -> None:
        self.state = EngineState.NEW
        self._options = read_options(EmbeddingOptions, model)
        self._make_encoder = make_encoder
        self._alias = model.alias
        self._longest_asked = max(model.dimensions, default=0)
        self._slots = model.max_in_flight
        self._inside: dict[str, Job] = {}
        self._lanes = Lanes[Job]()
        self._wake = asyncio.Event()
        self._reading = ThreadPoolExecutor(1, "read")
        self._computing = ThreadPoolExecutor(1, "compute")
        self._working: asyncio.Task[None] | None = None
        self._steps = 0
        self._tidying: asyncio.TimerHandle | None = None

    async def load(self) -> None:
        """Bring the model into memory; the first import of its libraries takes longest."""
        self.state = EngineState.LOADING
        loop = asyncio.get_running_loop()
        make = partial(self._make_encoder, self._options)
        self._encoder = await loop.run_in_executor(self._computing, make)
        if self._longest_asked > self._encoder.dimensions:
            raise CatalogError(
                f"The catalog's [models.{self._alias}], key 'dimensions': {self._longest_asked} is more than the "
                f"{self._encoder.dimensions} numbers of the model's vectors."
            )
        self._budget = StepBudget(min(self._options.step_tokens, self._encoder.step_tokens))
        self._working = asyncio.create_task(self._work())
        log.info("The model is loaded.", model=self._alias, **self._encoder.describe())

    async def warm_up(self, example: JsonObject | None) -> None:
        """Run the example."""
        self.state = EngineState.WARMING
        if example is not None:
            async for _ in self.run(EngineRequest("warm-up", 1, "embedding", example)):
                pass
        self.state = EngineState.READY

    def capacity(self) -> Capacity:
        """Count the free slots; there are none while too many tokens wait."""
        waiting = sum(job.weight + job.tokens for job in self._inside.values())
        free = self._slots - len(self._inside) if waiting < self._options.waiting_tokens else 0
        return Capacity(free=max(0, free), slots=self._slots)

    async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Run a request in the company of all others."""
        given = read_input(request, EmbeddingInput.model_validate)
        job = Job(sum(map(len, given.texts)) // CHARACTERS_PER_TOKEN)
        self._inside[request.job_id] = job
        try:
            self._check_alive()
            job.begin(await self._read(given))
            self._enqueue(job)
            while not job.done.done():
                await asyncio.wait([job.done], timeout=PROGRESS_SECONDS)
                if not job.done.done() and not job.is_short:
                    yield ProgressMade(job.count / len(job.vectors), "embed")
            if job.done.cancelled():
                return
            job.done.result()
            for event in await self._answer(job, given):
                yield event
        finally:
            self._lanes.drop(job)
            job.done.cancel()  # nobody listens any more
            if self._inside.get(request.job_id) is job:
                del self._inside[request.job_id]
            if len(given.texts) >= TIDY_TEXTS:
                self._tidy_soon()

    async def abort(self, job_id: str) -> None:
        """End a request's run without an answer; the step that has its texts goes on without it."""
        if job_id in self._inside:
            job = self._inside[job_id]
            self._lanes.drop(job)
            job.done.cancel()

    def adapters(self) -> frozenset[str]:
        """Return nothing: it takes none."""
        return frozenset()

    def stats(self) -> JsonObject:
        """Return where the model is, how much waits and how long steps are."""
        if self._working is None:
            return {}
        return {
            **self._encoder.describe(),
            "steps": self._steps,
            "step_tokens": self._budget.tokens(perf_counter()),
            "batch": len(self._inside),
            "waiting_tokens": self._lanes.tokens,
        }

    async def close(self) -> None:
        """Stop after the step that is being computed."""
        self.state = EngineState.DEAD
        if self._working is not None:
            self._working.cancel()
        if self._tidying is not None:
            self._tidying.cancel()
        for job in self._inside.values():
            job.done.cancel()
        for thread in (self._reading, self._computing):
            thread.shutdown(wait=False, cancel_futures=True)

    def _tidy_soon(self) -> None:
        if self._tidying is None and self.state is not EngineState.DEAD:
            self._tidying = asyncio.get_running_loop().call_later(TIDY_SECONDS, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        self._reading.submit(trim_malloc)

    def _check_alive(self) -> None:
        if self.state is EngineState.DEAD:
            raise EngineDeadError

    def _enqueue(self, job: Job) -> None:
        if not job.done.done():  # else it was aborted while its texts were read
            self._lanes.add(job)
            self._wake.set()
            if job.is_short:
                self._budget.hurry(perf_counter())

    async def _read(self, given: EmbeddingInput) -> list[Piece]:
        loop, pieces = asyncio.get_running_loop(), list[Piece]()
        for begin in range(0, len(given.texts), CHUNK_TEXTS):
            chunk = range(begin, min(begin + CHUNK_TEXTS, len(given.texts)))
            pieces += await loop.run_in_executor(self._reading, self._read_chunk, given, chunk)
        return pieces

    def _read_chunk(self, given: EmbeddingInput, chunk: range) -> list[Piece]:
        return [Piece(index, self._read_text(index, given.texts[index], given.truncate)) for index in chunk]

    def _read_text(self, index: int, text: str, truncate: Truncate) -> Sequence[int]:
        tokens = self._encoder.read(text, cut=truncate is Truncate.END)
        limit = self._encoder.limit
        if len(tokens) > limit:
            raise InputTooLongError(
                f"Text {index} (counted from 0) is {len(tokens):,} tokens long, {len(tokens) - limit:,} more than the "
                f'{limit:,} that \'{self._alias}\' reads. Shorten or split it, or send "truncate": "end" to embed '
                "its beginning."
            )
        return tokens

    async def _answer(self, job: Job, given: EmbeddingInput) -> list[EngineEvent]:
        make = partial(answer, job.vectors, job.prompt_tokens, given)
        return await asyncio.get_running_loop().run_in_executor(self._reading, make)

    async def _work(self) -> None:
        """Compute step after step, for as long as the engine lives."""
        try:
            while self.state is not EngineState.DEAD:
                now = perf_counter()
                step = self._lanes.next_step(self._budget.short_tokens(now), self._budget.tokens(now))
                if step:
                    await self._make(step)
                else:
                    self._wake.clear()
                    await self._wake.wait()
        except Exception:
            log.exception("The engine cannot go on.")
            self._die()

    async def _make(self, step: Sequence[tuple[Job, Piece]]) -> None:
        pieces, began_at = [piece for _, piece in step], perf_counter()
        compute = partial(self._compute, [piece.tokens for piece in pieces])
        vectors = await asyncio.get_running_loop().run_in_executor(self._computing, compute)
        self._budget.note(padded_tokens(pieces), perf_counter() - began_at)
        self._steps += 1
        for (job, piece), vector in zip(step, vectors, strict=True):
            job.take(piece.index, _name_text(vector, piece.index))
            if job.done.done():
                self._lanes.drop(job)

    def _die(self) -> None:
        self.state = EngineState.DEAD
        for job in self._inside.values():
            if not job.done.done():
                job.done.set_exception(EngineDeadError())

    def _compute(self, batch: Sequence[Sequence[int]]) -> list[Vectors | Exception]:
        """Encode a batch; when that fails, look in the halves for whom it fails."""
        try:
            vectors = self._encoder.encode(batch)
        except EngineDeadError:
            raise
        except Exception as error:
            if len(batch) == 1:
                log.exception("A text failed.")
                return [error]
            middle = len(batch) // 2
            return [*self._compute(batch[:middle]), *self._compute(batch[middle:])]
        return [vector if np.isfinite(vector).all() else NotFiniteError() for vector in vectors]


class NotFiniteError(Exception):
    """The model computed a vector that is none."""


def _name_text(result: Vectors | Exception, index: int) -> Vectors | Exception:
    """Return what a job is told of a text's result."""
    if isinstance(result, NotFiniteError):
        return EngineRefusedError(f"The model has no vector for text {index} (counted from 0); leave it out.")
    if isinstance(result, Exception):
        return EngineError(f"The engine failed at text {index} (counted from 0).")
    return result


def create(model: Model, device: str, locate: Callable[[str], str], *_: object) -> EmbeddingEngine:
    """Make the engine of a placement."""

    def make_encoder(options: EmbeddingOptions) -> Encoder:
        source = locate(model.source)  # first: a folder that is not there is told at once
        # Imported by the thread that loads: torch takes seconds, in which the worker already says that it loads.
        from workers.engines.encoder import SentenceEncoder  # noqa: PLC0415 - takes seconds

        return SentenceEncoder(
            source,
            revision=model.revision,
            device=device,
            dtype=options.dtype,
            threads=options.threads,
            context_length=model.context_length,
        )

    return EmbeddingEngine(model, make_encoder)
