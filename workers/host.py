"""The background thread whose event loop owns the engine: every job of the process meets there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import uvloop

from schemas.base import JsonObject
from tasks.collector import spare_what_stays
from tasks.engine import Engine, EngineState
from tasks.logs import get_logger

CLOSE_SECONDS = 5.0

Result = TypeVar("Result")
log = get_logger(__name__)


class Host:
    """An engine, and the loop in which its every verb is called."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.loop = uvloop.new_event_loop()
        self._over = self.loop.create_future()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the loop."""
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Run something in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call something in the loop soon, if it still runs."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(function, *arguments)

    def load(self, example: JsonObject | None) -> Future[None]:
        """Load the engine and warm it up."""
        return self.submit(self._load(example))

    def close(self) -> None:
        """Close the engine and end the loop; an engine that does not close in time is left behind."""
        try:
            self.submit(self.engine.close()).result(CLOSE_SECONDS)
        except Exception:
            log.exception("The engine did not close.")
        self.loop.call_soon_threadsafe(self._over.set_result, None)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._last_until_over())

    async def _last_until_over(self) -> None:
        await self._over

    async def _load(self, example: JsonObject | None) -> None:
        await self.engine.load()
        await self.engine.warm_up(example)
        spare_what_stays()
        self.engine.state = EngineState.READY
