"""The engine port: the few verbs by which a worker drives whatever computes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from schemas.base import JsonObject
from schemas.events import EngineEvent
from tasks.audience import Audience


class EngineState(StrEnum):
    """Where an engine is in its life."""

    NEW = "new"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One attempt of one job, as an engine sees it."""

    job_id: str
    attempt: int
    kind: str
    input: JsonObject
    usage: JsonObject = field(default_factory=dict)
    """What it took so far: kept by engines that count while they run, so that a run without an answer counts too."""
    audience: Audience = field(default_factory=Audience)
    """Who follows; an engine may spare itself words that nobody hears one by one."""
    rank: float | None = None
    """Who goes first where an engine has to choose: the smallest, and last of all those without one."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an engine can take right now, and at most."""

    free: int
    slots: int


class Engine(Protocol):
    """Lives in one asyncio loop and runs many requests at once; every verb but `stats` is called in that loop."""

    state: EngineState

    async def load(self) -> None:
        """Bring the model into memory."""

    async def warm_up(self, example: JsonObject | None) -> None:
        """Run an example, so that the first caller does not pay for it."""

    def capacity(self) -> Capacity:
        """Say how many more requests would run now rather than wait inside the engine."""

    def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Run a request; Finished comes last. Closing the generator or cancelling its task aborts it.

        From its first step on, capacity() counts it.
        """

    async def abort(self, job_id: str) -> None:
        """Stop a request, wherever it is; its run raises or ends soon after."""

    def adapters(self) -> frozenset[str]:
        """Return the ids of the adapters in memory."""

    def stats(self) -> JsonObject:
        """Return what is worth seeing on the worker's row; called in any thread."""

    async def close(self) -> None:
        """Give back memory and processes."""
