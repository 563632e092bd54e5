"""The fake engine: it computes nothing and keeps a real engine's hours. Tests, load and chaos run on it.

Continuous batching is simulated: all running requests share one step, whose length is `decode_step_ms` plus
`step_slope_ms` for each of them plus `prefill_ms_per_token` for what new ones bring. Words in the prompt, or in the
first text, make a run misbehave:

    fake:fail              fails, every time, in a way that a retry might mend
    fake:fail-times=N      fails in the first N attempts
    fake:refuse            is refused: this input can never run
    fake:hang              gives its first step and then nothing until it is aborted
    fake:dead              the engine dies, with everything in it
    fake:exit              the process is gone at once, as after a segmentation fault
    fake:sleep-ms=N        takes N ms more before all that
    fake:tokens=N          says N tokens
    fake:unsafe            draws a first picture that a safety checker would block
    fake:tool              calls the first of the tools with what it would have said
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from functools import partial

from pydantic import Field

from schemas.base import JsonObject, Strict
from schemas.catalog import Model
from schemas.errors import EngineDeadError, EngineError, EngineRefusedError
from schemas.events import EngineEvent
from tasks.engine import Capacity, EngineRequest, EngineState
from workers.engines.fake_output import Script, expected_artifacts, expected_output, write_script
from workers.engines.inputs import read_input
from workers.engines.options import read_options

__all__ = ["FakeEngine", "FakeOptions", "expected_artifacts", "expected_output"]

SEGMENTATION_FAULT = 139


class FakeOptions(Strict):
    """The time model, and whether faults may be asked for."""

    load_ms: float = Field(0, ge=0)
    prefill_ms_per_token: float = Field(0, ge=0)
    decode_step_ms: float = Field(0, ge=0)
    step_slope_ms: float = Field(0, ge=0)
    faults: bool = True

    @property
    def is_instant(self) -> bool:
        """Say whether nothing takes any time."""
        return not (self.prefill_ms_per_token or self.decode_step_ms or self.step_slope_ms)


class FakeEngine:
    """Runs scripts at the pace of its options."""

    def __init__(self, model: Model) -> None:
        self._options = read_options(FakeOptions, model)
        self.state = EngineState.NEW
        self._kind = model.kind.value
        self._slots = model.max_in_flight
        self._inside: dict[str, asyncio.Event] = {}  # what each running or waiting request is stopped by
        self._running = asyncio.Semaphore(self._slots)
        self._stepping: asyncio.Task[None] | None = None
        self._step: asyncio.Future[None] | None = None
        self._unread_tokens = 0
        self._steps = 0

    async def load(self) -> None:
        """Take as long as loading takes."""
        self.state = EngineState.LOADING
        await asyncio.sleep(self._options.load_ms / 1000)

    async def warm_up(self, example: JsonObject | None) -> None:
        """Run the example."""
        self.state = EngineState.WARMING
        if example is not None:
            async for _ in self.run(EngineRequest("warm-up", 1, self._kind, example)):
                pass
        self.state = EngineState.READY

    def capacity(self) -> Capacity:
        """Count the free slots."""
        return Capacity(free=max(0, self._slots - len(self._inside)), slots=self._slots)

    async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Run a request in the company of all others."""
        self._check_alive()
        stopped = self._inside[request.job_id] = asyncio.Event()
        try:
            script = _read_script(request)
            async with self._running:
                await self._misbehave(request, script, stopped)
                await self._read(script)
                for index, step in enumerate(script.steps):
                    await self._next_step()
                    if self._is_asked(script, "hang") and (index > 0 or len(script.steps) == 1):
                        await stopped.wait()
                    if stopped.is_set():
                        self._check_alive()
                        return
                    for event in step:
                        yield event
        finally:
            del self._inside[request.job_id]

    async def abort(self, job_id: str) -> None:
        """End a request's run without an answer."""
        if job_id in self._inside:
            self._inside[job_id].set()

    def adapters(self) -> frozenset[str]:
        """Return nothing: it takes none."""
        return frozenset()

    def stats(self) -> JsonObject:
        """Return how many steps were made and how many requests share one."""
        return {"steps": self._steps, "batch": len(self._inside)}

    async def close(self) -> None:
        """Stop stepping."""
        self.state = EngineState.DEAD
        if self._stepping is not None:
            self._stepping.cancel()

    def _is_asked(self, script: Script, order: str) -> bool:
        return self._options.faults and order in script.orders

    async def _misbehave(self, request: EngineRequest, script: Script, stopped: asyncio.Event) -> None:
        if not script.orders or not self._options.faults:
            return
        if "sleep-ms" in script.orders:
            try:
                async with asyncio.timeout(script.orders["sleep-ms"] / 1000):
                    await stopped.wait()
            except TimeoutError:
                pass
            self._check_alive()
        if "exit" in script.orders:
            os._exit(SEGMENTATION_FAULT)
        if "dead" in script.orders:
            self._die()
            self._check_alive()
        if "refuse" in script.orders:
            raise EngineRefusedError("The prompt says fake:refuse, so it is refused.")
        if "fail" in script.orders or request.attempt <= script.orders.get("fail-times", 0):
            raise EngineError("The prompt says fake:fail, so it failed.")

    def _check_alive(self) -> None:
        if self.state is EngineState.DEAD:
            raise EngineDeadError

    def _die(self) -> None:
        self.state = EngineState.DEAD
        for stopped in self._inside.values():
            stopped.set()
        if self._step is not None and not self._step.done():
            self._step.set_result(None)

    async def _read(self, script: Script) -> None:
        """Enter at the end of a step; what there is to read lengthens the next one."""
        if self._options.is_instant:
            return
        if self._stepping is not None and not self._stepping.done():
            await self._next_step()
        self._unread_tokens += script.prefill_tokens

    async def _next_step(self) -> None:
        if not self._options.is_instant:
            if self._stepping is None or self._stepping.done():
                self._stepping = asyncio.create_task(self._step_while_busy())
            if self._step is None or self._step.done():
                self._step = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._step)
        self._check_alive()

    async def _step_while_busy(self) -> None:
        while self._inside and self.state is not EngineState.DEAD:
            await asyncio.sleep(self._step_seconds())
            self._steps += 1
            if self._step is not None and not self._step.done():
                self._step.set_result(None)
                await asyncio.sleep(0)  # those who go on ask for the next step

    def _step_seconds(self) -> float:
        options, unread = self._options, self._unread_tokens
        self._unread_tokens = 0
        milliseconds = options.decode_step_ms + options.step_slope_ms * len(self._inside)
        return (milliseconds + options.prefill_ms_per_token * unread) / 1000


def create(model: Model, *_: object) -> FakeEngine:
    """Make the engine of a placement; it needs neither device nor weights."""
    return FakeEngine(model)


def _read_script(request: EngineRequest) -> Script:
    return read_input(request, partial(write_script, request.kind))
