"""How the stores are: asked at most once a second, each given a second to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from producer_api.services import Services
from schemas.errors import DatabaseFaultError, FaultError
from storage import jobs
from storage.database import Database

ANSWER_SECONDS = 1.5
NOBODY = "job_health"


@dataclass(frozen=True, slots=True)
class Health:
    """Which stores do not answer."""

    degraded: list[str]

    @property
    def accepts(self) -> bool:
        """Say whether a submit would work: it needs SQL and nothing else."""
        return "database" not in self.degraded

    @property
    def status(self) -> str:
        """Return it in one word."""
        if not self.accepts:
            return "unavailable"
        return "degraded" if self.degraded else "ready"


async def examine(services: Services) -> Health:
    """Ask every store at the same time."""
    stores = {
        "database": _ask_database(services.database),
        "redis": services.events.read(NOBODY, None),
        "objects": asyncio.to_thread(services.objects.check),
    }
    answers = await asyncio.gather(*(_answers(question) for question in stores.values()))
    return Health([name for name, answered in zip(stores, answers, strict=True) if not answered])


async def _ask_database(database: Database) -> None:
    """Ask for something, and what became of the writes of late."""
    await database.aread(lambda connection: jobs.statuses(connection, [NOBODY]))
    if database.fails_to_write:
        raise DatabaseFaultError


async def _answers(question: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await question
    except (FaultError, TimeoutError):
        return False
    return True
