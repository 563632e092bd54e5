"""Lines beside jobs: claimed after jobs have taken theirs, up to the engine's slots minus the interactive reserve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.catalog import Catalog, Model
from schemas.errors import DatabaseFaultError, EngineDeadError
from storage import batch_lines, batches
from storage.batch_lines import ClaimedLine, LineClaim, LineRelease
from storage.batches import BatchRow
from tasks.attempt import Workplace
from tasks.batches.attempt import EndedLine, LineAttempt, LineStop
from tasks.batches.finishing import GROUP_LINES, Finishing
from tasks.batches.inputs import Inputs
from tasks.counting import Counting
from tasks.gate import Gate, Place
from tasks.logs import get_logger
from tasks.patience import insist

CLAIMED_TOGETHER = 256
SHARE_TO_CLAIM = 4
"""A claim waits until this part of the places is free, so that it takes many."""
UNSTORED_LINES = 4 * GROUP_LINES
"""When so many answers wait for a slow store, no more lines begin."""
BEGUN_TOGETHER = 8
PUT_OFF_SECONDS = 0.05
"""So long a few lines wait for jobs on their way into the engine or out of it."""
SUSPECTS_TOGETHER = 16
LOST_ONCE, LOST_TWICE = 1, 2
KNOWN_BATCHES = 256

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LineRules:
    """What lines may take of one engine."""

    queue: str
    siblings: Sequence[str]
    most: int
    """How many run at once, at most."""
    timeout_seconds: float

    @classmethod
    def of(cls, model: Model, queue: str, siblings: Sequence[str]) -> LineRules:
        """Return what a model's catalog entry says."""
        most = max(1, model.max_in_flight - model.reserve)
        return cls(queue, siblings, most, model.timeout_seconds)


class LineExecution:
    """Runs the lines of one queue in one process. Its methods belong into the loop."""

    def __init__(self, workplace: Workplace, gate: Gate, catalog: Catalog, rules: LineRules) -> None:
        self.worker_id = ""
        self.on_engine_dead: Callable[[], None] = lambda: None
        self.finishing = Finishing(workplace.database, workplace.objects)
        self.counting: Counting | None = None
        """What judges text as admission does; without it the engine judges alone."""
        self.is_hinted = False
        self._database = workplace.database
        self._engine = workplace.engine
        self._gate = gate
        self._catalog = catalog
        self.rules = rules
        self._inputs = Inputs(workplace.objects, workplace.threads)
        self._attempts: dict[int, LineAttempt] = {}
        self._batches: dict[int, BatchRow] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._strays: set[tuple[int, int]] = set()
        self._missing: set[tuple[int, int]] = set()
        self._taken = 0  # what all attempts weigh
        self._heaviest = 1  # of late: what lines weigh is known when they are read

    @property
    def running(self) -> int:
        """Return how many lines were claimed and are not through the engine."""
        return len(self._attempts)

    def wants(self) -> bool:
        """Say whether a claim is worth while: it takes many, or there is nothing to wait for."""
        worth = self.rules.most // SHARE_TO_CLAIM // self._heaviest if self._attempts else 1
        return self.is_hinted and self._room() >= max(1, worth)

    async def claim(self) -> None:
        """Claim a group and run it; only after a claim that found nothing, anywhere, the next hint is waited for."""
        self.is_hinted = False
        places = [self._gate.enter(is_line=True) for _ in range(min(self._room(), CLAIMED_TOGETHER))]
        found = await self._claim_somewhere(len(places))
        self.is_hinted = self.is_hinted or bool(found)
        begun = [(self._attempt(line, place), place) for line, place in zip(found, places, strict=False)]
        for place in places[len(found) :]:
            place.leave()
        self._start(self._run_all(begun))

    async def run_suspects(self) -> bool:
        """Run a few lines whose workers were lost, and wait for them; the gate is closed for all others."""
        limit = min(SUSPECTS_TOGETHER, self.rules.most)
        found = await self._claim(self.rules.queue, limit, LOST_ONCE)
        found = found or await self._claim(self.rules.queue, 1, LOST_TWICE)
        if found:
            log.info("Running suspect lines apart.", lines=[line.id for line in found], lost=found[0].lost)
            places = [self._gate.enter(is_line=True) for _ in found]
            begun = [(self._attempt(line, place), place) for line, place in zip(found, places, strict=True)]
            await asyncio.wait([self._start(self._run(*one)) for one in begun])
            await self.finishing.flush()
        return bool(found)

    def preempt(self, count: int) -> None:
        """Give places to jobs that wait: the lines that began last have the least to lose.

        Lines that began before it was known what they weigh may have taken more than is theirs.
        """
        if count <= 0:
            return
        taken = self._taken
        allowed = min(self.rules.most, taken - count)
        for attempt in reversed(list(self._attempts.values())):
            if taken <= allowed:
                return
            taken -= attempt.weight
            attempt.stop(LineStop.HANDED_BACK)

    def stop_batch(self, number: int) -> None:
        """Stop the lines of a batch that has ended."""
        for attempt in list(self._attempts.values()):
            if attempt.line.batch == number:
                attempt.stop(LineStop.VOID)

    def stop_all(self, why: LineStop) -> None:
        """Stop everything that runs."""
        for attempt in list(self._attempts.values()):
            attempt.stop(why)

    async def wait(self) -> None:
        """Wait until nothing runs any more and all of it has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.finishing.flush()

    async def compare(self, held: Mapping[int, int]) -> None:
        """Take the news that a beat brought: what SQL and we disagree about twice in a row is not ours.

        A line that SQL does not give us has ended or is somebody else's; one that we do not know was claimed in a
        commit whose answer was lost.
        """
        here = {(one.line.id, one.line.attempt) for one in self._attempts.values()}
        there = set(held.items())
        missing, strays = here - there, {key for key in there - here if key[0] not in self.finishing.waiting}
        for line_id, _ in missing & self._missing:
            if line_id in self._attempts:
                self._attempts[line_id].stop(LineStop.VOID)
        lost = strays & self._strays
        self._missing, self._strays = missing, strays
        if lost:
            log.warning("A claim's answer was lost; its lines go back to the queue.", lines=len(lost))
            await self._release([LineRelease(*key) for key in lost])

    def _room(self) -> int:
        free = (self.rules.most - self._taken) // self._heaviest
        if not self._attempts:
            free = max(1, free)  # whatever it weighs, one can run
        return min(self._gate.room(), free, UNSTORED_LINES - len(self.finishing.waiting))

    def _note_weight(self, weight: int) -> None:
        """Remember heavy lines for a while: each lighter one makes them less likely."""
        self._taken += weight - 1  # each counts as one until it is read
        self._heaviest = max(weight, self._heaviest - 1)

    async def _claim_somewhere(self, limit: int) -> list[ClaimedLine]:
        found = await self._claim(self.rules.queue, limit)
        for sibling in self.rules.siblings:
            found = found or await self._claim(sibling, limit)
        return found

    async def _claim(self, queue: str, limit: int, most_lost: int = 0) -> list[ClaimedLine]:
        wish = LineClaim(queue, self.worker_id, limit, most_lost)
        try:
            if not await self._database.aread(lambda c: batch_lines.has_more(c, queue, most_lost)):
                return []
            found = await self._database.awrite(batch_lines.claim, wish, later=True)
            await self._learn({line.batch for line in found})
        except DatabaseFaultError as fault:
            log.warning("No lines were claimed; the reconciler sends the hint again.", queue=queue, fault=str(fault))
        except Exception:  # or its places would stay taken, and nothing be claimed any more
            log.exception("A claim of lines failed; the reconciler sends the hint again.", queue=queue)
        else:
            return found
        return []

    async def _learn(self, numbers: set[int]) -> None:
        unknown = numbers - self._batches.keys()
        if unknown:
            if len(self._batches) > KNOWN_BATCHES:
                self._batches.clear()
                unknown = numbers
            self._batches |= await self._database.aread(lambda connection: batches.numbered(connection, unknown))

    def _attempt(self, line: ClaimedLine, place: Place) -> LineAttempt:
        batch, seconds = self._batches[line.batch], self.rules.timeout_seconds
        attempt = LineAttempt(
            line,
            batch,
            place,
            self._engine,
            catalog=self._catalog,
            counting=self.counting,
            seconds=seconds,
            on_weight=self._note_weight,
        )
        self._attempts[line.id] = attempt
        self._taken += attempt.weight
        return attempt

    async def _run_all(self, begun: Sequence[tuple[LineAttempt, Place]]) -> None:
        """Begin a few at a time: a job that comes meanwhile goes first."""
        for first in range(0, len(begun), BEGUN_TOGETHER):
            await self._gate.calm(PUT_OFF_SECONDS)
            for one in begun[first : first + BEGUN_TOGETHER]:
                self._start(self._run(*one))
            await asyncio.sleep(0)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, attempt: LineAttempt, place: Place) -> None:
        line, batch = attempt.line, attempt.batch
        try:
            outcome = await attempt.run(self._inputs)
            if isinstance(outcome, EndedLine):
                self.finishing.add(batch.id, outcome)
        except EngineDeadError:
            self.on_engine_dead()
            return
        except Exception:  # the last wall of a line's task
            log.exception("A line came to nothing; the beat gives it back.", line=line.id)
            return
        finally:
            if self._attempts.get(line.id) is attempt:
                del self._attempts[line.id]
            self._taken -= attempt.weight
            place.leave()
        if isinstance(outcome, LineRelease):
            await self._release([outcome])

    async def _release(self, releases: Sequence[LineRelease]) -> None:
        async def release() -> int:
            return await self._database.awrite(batch_lines.release, releases)

        await insist(release)
        self.is_hinted = True
