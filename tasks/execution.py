"""What a hint sets in motion: wait for room, claim, hint again, run. All of it in the engine's event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

import structlog

from schemas.errors import DatabaseFaultError
from storage import claims
from storage.claims import Claim, Claimed, Release
from storage.hints import AsyncHints
from storage.rows import ClaimedJob
from storage.workers import Held
from tasks.attempt import Attempt, Reason, Workplace
from tasks.dispatch import hint_width
from tasks.gate import Gate, Place
from tasks.logs import get_logger
from tasks.outcome import End, Outcome
from tasks.statistics import Statistics

SUSPECTS_TOGETHER = 4
LOST_ONCE, LOST_TWICE = 1, 2
NOTHING = Claimed([], more=False)

OnClaim = Callable[[Sequence[str]], None]

log = get_logger(__name__)


class Execution:
    """Runs the jobs of one queue in one process. Its methods belong into the loop, its properties are for anybody."""

    def __init__(
        self, workplace: Workplace, gate: Gate, hints: AsyncHints, *, queue: str, siblings: Sequence[str], slots: int
    ) -> None:
        self.gate = gate
        self.statistics = Statistics()
        self.worker_id = ""
        self.on_engine_dead: Callable[[], None] = lambda: None
        self.on_news: Callable[[], None] = lambda: None
        """Called when somebody may wait for the webhook of what just happened."""
        self._workplace = workplace
        self._hints = hints
        self._queue = queue
        self._siblings = siblings
        self._slots = slots
        self._attempts: dict[str, Attempt] = {}
        self._unknown: set[tuple[str, int]] = set()

    @property
    def events_dropped(self) -> int:
        """Return how many events were lost because Redis was sick."""
        return self._workplace.writer.dropped

    async def on_hint(
        self, queue: str, *, suspects: bool = False, on_claim: OnClaim = lambda _: None
    ) -> list[Outcome]:
        """Claim and run what the queue has for this worker; return what came of it.

        `on_claim` gets the ids of the claimed jobs before they run.
        """
        if queue != self._queue:
            log.warning("A hint for another queue was dropped.", queue=queue)
            return []
        return await (self._run_suspects(on_claim) if suspects else self._run_clean(on_claim))

    async def _run_clean(self, on_claim: OnClaim) -> list[Outcome]:
        place = await self.gate.enter()
        if place is None:
            return []
        claimed = await self._claim_one()
        if not claimed.jobs:
            place.leave()
            return []
        if claimed.more:
            self.hint()
        job = claimed.jobs[0]
        on_claim([job.id])
        return [await self._run(job, place)]

    async def _claim_one(self) -> Claimed:
        claimed = await self._claim(self._queue)
        if claimed.jobs or not self._siblings:
            return claimed
        for sibling in await self._busy_siblings():
            claimed = await self._claim(sibling)
            if claimed.jobs:
                break
        return claimed

    async def _busy_siblings(self) -> list[str]:
        try:
            return await self._workplace.database.aread(
                lambda connection: [name for name in self._siblings if claims.has_more(connection, name)]
            )
        except DatabaseFaultError:
            return []

    async def _claim(self, queue: str, limit: int = 1, most_lost: int = 0) -> Claimed:
        wish = Claim(queue, self.worker_id, limit, most_lost)
        try:
            return await self._workplace.database.awrite(claims.claim, wish)
        except DatabaseFaultError as fault:
            log.warning("Nothing was claimed; the reconciler sends the hint again.", queue=queue, fault=str(fault))
            return NOTHING

    async def _run_suspects(self, on_claim: OnClaim) -> list[Outcome]:
        """Run suspects apart from the others, group by group; between groups the others have their turn."""
        outcomes: list[Outcome] = []
        while group := await self._run_suspect_group(on_claim):
            outcomes += group
        return outcomes

    async def _run_suspect_group(self, on_claim: OnClaim) -> list[Outcome]:
        async with self.gate.isolation() as granted:
            if not granted:
                return []
            found = (await self._claim(self._queue, min(SUSPECTS_TOGETHER, self._slots), LOST_ONCE)).jobs
            found = found or (await self._claim(self._queue, 1, LOST_TWICE)).jobs
            job_ids = [job.id for job in found]
            if found:
                log.info("Running suspects apart.", job_ids=job_ids, lost=found[0].lost)
                on_claim(job_ids)
            return await asyncio.gather(*(self._run(job, self.gate.admit()) for job in found))

    async def _run(self, job: ClaimedJob, place: Place) -> Outcome:
        if job.webhook is not None:
            self.on_news()
        attempt = Attempt(job, place, self._workplace, self.worker_id)
        self._attempts[job.id] = attempt
        structlog.contextvars.bind_contextvars(  # a task has a context of its own
            job_id=job.id, attempt=job.attempt, request_id=job.request_id, worker_id=self.worker_id
        )
        began_at = time.monotonic()
        try:
            outcome = await attempt.run()
        finally:
            if self._attempts.get(job.id) is attempt:
                del self._attempts[job.id]
            place.leave()
        self._note(job, outcome, (time.monotonic() - began_at) * 1000)
        return outcome

    def _note(self, job: ClaimedJob, outcome: Outcome, run_ms: float) -> None:
        if outcome.end in (End.SUCCEEDED, End.FAILED, End.CANCELED):
            self.statistics.add((job.started_at - job.queued_at) * 1000, run_ms)
        if outcome.end is End.LOST:
            self.on_engine_dead()
        if job.webhook is not None:
            self.on_news()
        log.info("attempt ended", end=outcome.end.value, why=outcome.why, run_ms=round(run_ms, 1))

    def hint(self) -> None:
        """Say that the queue has more."""
        self._hints.send(self._queue, width=hint_width(self._slots))

    def cancel(self, job_id: str, attempt: int) -> None:
        """Stop a job that its caller canceled."""
        held = self._attempts.get(job_id)
        if held is not None and held.job.attempt == attempt:
            held.stop(Reason.CANCELED)

    def stop_all(self, reason: Reason) -> None:
        """Stop everything that runs."""
        for attempt in list(self._attempts.values()):
            attempt.stop(reason)

    async def compare(self, held: Iterable[Held]) -> None:
        """Take the news that a beat brought: stop what was canceled, release what nobody here knows of.

        What SQL gave us twice in a row and we do not have is a claim that was committed and its answer lost.
        """
        unknown: dict[tuple[str, int], Held] = {}
        for one in held:
            known = self._attempts.get(one.job_id)
            if known is None or known.job.attempt != one.attempt:
                unknown[one.job_id, one.attempt] = one
            elif one.cancel_requested:
                known.stop(Reason.CANCELED)
        strays = [one for key, one in unknown.items() if key in self._unknown]
        self._unknown = set(unknown)
        for stray in strays:
            await self._release(stray)

    async def _release(self, stray: Held) -> None:
        log.warning("A claim's answer was lost; its job goes back to the queue.", job_id=stray.job_id)
        try:
            await self._workplace.database.awrite(claims.release, Release(stray.job_id, stray.attempt))
        except DatabaseFaultError:
            return  # the next beat brings it again
        self.hint()
