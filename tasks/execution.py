"""What hints set in motion: while the queue has work and the engine has room, jobs are claimed and run.

All of it happens in the engine's event loop. A hint only says "look": hints that come while a claim is under way are
answered together by the next one, and a claim that leaves work behind is followed by another as soon as there is room.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

import structlog

from schemas.errors import DatabaseFaultError
from storage import claims, jobs
from storage.claims import Claim, Claimed, Release
from storage.hints import AsyncHints
from storage.rows import ClaimedJob
from storage.workers import Held
from tasks.attempt import Attempt, Reason, Workplace
from tasks.batches.attempt import LineStop
from tasks.batches.running import LineExecution
from tasks.dispatch import hint_width
from tasks.gate import Gate, Place
from tasks.logs import get_logger
from tasks.outcome import End, Outcome
from tasks.statistics import DEFAULT_SLA_MS, Measured, Statistics

CLAIMED_TOGETHER = 32
SUSPECTS_TOGETHER = 4
LOST_ONCE, LOST_TWICE = 1, 2
NOTHING = Claimed([], more=False)

log = get_logger(__name__)


class Watcher(Protocol):
    """Whoever shows what happens to jobs."""

    def begin(self, job: ClaimedJob) -> None:
        """See an attempt begin."""

    def end(self, job: ClaimedJob, outcome: Outcome, seconds: float) -> None:
        """See an attempt end."""


class Execution:
    """Runs the jobs of one queue in one process. Its methods belong into the loop, its properties are for anybody."""

    def __init__(
        self,
        workplace: Workplace,
        gate: Gate,
        hints: AsyncHints,
        watcher: Watcher,
        *,
        lines: LineExecution,
        slots: int,
        sla_ttft_ms: float = DEFAULT_SLA_MS,
    ) -> None:
        self.gate = gate
        self.statistics = Statistics(sla_ttft_ms)
        self.lines = lines
        self.resident: Callable[[], frozenset[str] | None] = lambda: None
        """Returns the ids of the adapters in memory, where the model has any."""
        self.on_engine_dead: Callable[[], None] = lambda: None
        self.on_news: Callable[[], None] = lambda: None
        """Called when somebody may wait for the webhook of what just happened."""
        self._workplace = workplace
        self._hints = hints
        self._watcher = watcher
        self._queue = lines.rules.queue
        self._siblings = lines.rules.siblings
        self._slots = slots
        self._worker_id = ""
        self._making_room: asyncio.Task[None] | None = None
        self._attempts: dict[str, Attempt] = {}
        self._unknown: set[tuple[str, int]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._claiming: asyncio.Task[None] | None = None
        self._claiming_lines: asyncio.Task[None] | None = None
        self._isolating: asyncio.Task[None] | None = None
        self._is_hinted = False
        self._has_more = False
        gate.on_room = self._go_on
        lines.finishing.on_stored = self._go_on
        lines.on_engine_dead = self._end_with_engine

    @property
    def worker_id(self) -> str:
        """Return the id under which everything is claimed."""
        return self._worker_id

    @worker_id.setter
    def worker_id(self, worker_id: str) -> None:
        """Claim under another id from now on."""
        self._worker_id = self.lines.worker_id = worker_id

    @property
    def events_dropped(self) -> int:
        """Return how many events were lost because Redis was sick."""
        return self._workplace.writer.dropped

    def on_hint(self) -> None:
        """Claim and run what the queue has, as soon as there is room."""
        self._is_hinted = True
        self._go_on()
        if not self.gate.room():
            self._make_room()

    def on_suspects(self) -> None:
        """Run the suspects of the queue apart from the others."""
        if self._isolating is None or self._isolating.done():
            self._isolating = self._start(self._run_suspects())

    def hint(self) -> None:
        """Tell whoever serves the queue that it has work."""
        self._hints.send(self._queue, width=hint_width(self._slots))

    def cancel(self, job_id: str, attempt: int) -> None:
        """Stop a job that its caller canceled."""
        held = self._attempts.get(job_id)
        if held is not None and held.job.attempt == attempt:
            held.stop(Reason.CANCELED)

    def stop_batch(self, number: int) -> None:
        """Stop the lines of a batch that has ended."""
        self.lines.stop_batch(number)

    def stop_all(self, reason: Reason) -> None:
        """Stop everything that runs."""
        for attempt in list(self._attempts.values()):
            attempt.stop(reason)
        self.lines.stop_all(LineStop.HANDED_BACK if reason is Reason.HANDED_BACK else LineStop.VOID)

    async def wait(self) -> None:
        """Wait until nothing runs any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.lines.wait()

    async def compare(self, held: Iterable[Held], lines: Mapping[int, int]) -> None:
        """Take the news that a beat brought: stop what was canceled, release what nobody here knows of.

        What SQL gave us twice in a row and we do not have is a claim that was committed and its answer lost.
        """
        await self.lines.compare(lines)
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

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _go_on(self) -> None:
        """Have jobs claimed, or lines when no job may wait; a claim of lines that is under way stops no job."""
        if self._wants():
            if self.gate.room() and (self._claiming is None or self._claiming.done()):
                self._claiming = self._start(self._claim_while_there_is_room())
        elif self._claiming is None or self._claiming.done():
            self._go_on_with_lines()

    def _go_on_with_lines(self) -> None:
        if self.lines.wants() and (self._claiming_lines is None or self._claiming_lines.done()):
            self._claiming_lines = self._start(self._claim_lines())

    def _end_with_engine(self) -> None:
        self.on_engine_dead()

    def _wants(self) -> bool:
        return self._is_hinted or self._has_more

    async def _claim_while_there_is_room(self) -> None:
        """Claim jobs; lines take what they have left."""
        while self._wants() and self.gate.room():
            await self._claim_jobs()
        if self._has_more:
            self._make_room()
        if not self._wants():
            self._go_on_with_lines()

    async def _claim_lines(self) -> None:
        while self.lines.wants() and not self._wants():
            await self.lines.claim()

    async def _claim_jobs(self) -> None:
        self.lines.is_hinted = self.lines.is_hinted or self._is_hinted
        self._is_hinted = False
        places = [self.gate.enter() for _ in range(min(self.gate.room(), CLAIMED_TOGETHER))]
        claimed = await self._claim_somewhere(len(places))
        self._has_more = claimed.more
        for job in claimed.jobs:
            self._start(self._run(job, places.pop()))
        for place in places:
            place.leave()

    def _make_room(self) -> None:
        """Have lines stopped for jobs that wait while the engine is full."""
        if self.lines.running and (self._making_room is None or self._making_room.done()):
            self._making_room = self._start(self._preempt())

    async def _preempt(self) -> None:
        def count(connection: Any) -> int:
            return jobs.count_up_to(connection, CLAIMED_TOGETHER, *jobs.claimable_in(self._queue))

        try:
            waiting = await self._workplace.database.aread(count)
        except DatabaseFaultError:
            return  # the next hint asks again
        self.lines.preempt(waiting - self.gate.room())

    async def _claim_somewhere(self, limit: int) -> Claimed:
        claimed = await self._claim(self._queue, limit)
        if claimed.jobs or not self._siblings:
            return claimed
        for sibling in await self._busy_siblings():
            claimed = await self._claim(sibling, limit)
            if claimed.jobs:
                break
        return claimed

    async def _busy_siblings(self) -> list[str]:
        try:
            return await self._workplace.database.aread(
                lambda connection: [name for name in self._siblings if claims.has_more(connection, name)]
            )
        except Exception:
            log.exception("Siblings could not be looked at.")
            return []

    async def _claim(self, queue: str, limit: int, most_lost: int = 0) -> Claimed:
        wish = Claim(queue, self.worker_id, limit, most_lost, self.resident())
        try:
            return await self._workplace.database.awrite(claims.claim, wish)
        except DatabaseFaultError as fault:
            log.warning("Nothing was claimed; the reconciler sends the hint again.", queue=queue, fault=str(fault))
        except Exception:
            log.exception("A claim failed; the reconciler sends the hint again.", queue=queue)
        return NOTHING

    async def _run_suspects(self) -> None:
        """Run suspects group by group; between two groups the others have their turn."""
        while await self._run_suspect_group():
            self._go_on()
            if claiming := [task for task in (self._claiming, self._claiming_lines) if task is not None]:
                await asyncio.wait(claiming)

    async def _run_suspect_group(self) -> bool:
        async with self.gate.isolation() as granted:
            if not granted:
                return False
            found = (await self._claim(self._queue, min(SUSPECTS_TOGETHER, self._slots), LOST_ONCE)).jobs
            found = found or (await self._claim(self._queue, 1, LOST_TWICE)).jobs
            if found:
                log.info("Running suspects apart.", job_ids=[job.id for job in found], lost=found[0].lost)
                await asyncio.wait([self._start(self._run(job, self.gate.enter())) for job in found])
            return bool(found) or await self.lines.run_suspects()

    async def _run(self, job: ClaimedJob, place: Place) -> None:
        if job.webhook is not None:
            self.on_news()
        structlog.contextvars.bind_contextvars(  # a task has a context of its own
            job_id=job.id, attempt=job.attempt, request_id=job.request_id, worker_id=self.worker_id
        )
        attempt = self._attempts[job.id] = Attempt(job, place, self._workplace, self.worker_id)
        self._watcher.begin(job)
        began_at = time.monotonic()
        try:
            outcome = await attempt.run()
        except Exception:
            log.exception("An attempt came to nothing; the beat gives its job back.")
            outcome = Outcome(job.id, End.LOST)
        finally:
            if self._attempts.get(job.id) is attempt:
                del self._attempts[job.id]
            place.leave()
        seconds = time.monotonic() - began_at
        if outcome.end in (End.SUCCEEDED, End.FAILED, End.CANCELED):
            self.statistics.add(
                Measured(job.kind, outcome.end.value, seconds * 1000, attempt.measure(), attempt.usage)
            )
        log.info("attempt ended", end=outcome.end.value, why=outcome.why, run_ms=round(seconds * 1000, 1))
        self._watcher.end(job, outcome, seconds)
        if job.webhook is not None:
            self.on_news()
        if outcome.end is End.LOST:
            self.on_engine_dead()
