"""What the reconciler decides from one look: which hints are missing, and which jobs wait in the wrong place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from schemas.catalog import Catalog
from storage import queues, workers
from storage.database import Database
from storage.queues import Depth, QueueRow
from storage.workers import WorkerRow
from tasks.dispatch import COUNTED_JOBS, hint_width, stays
from tasks.engine import EngineState
from tasks.routing import Load, choose, placements_of

NARROWEST = 4
HINTS_PER_WORKER = 2
"""One hint keeps a worker going until its queue is empty; the other is for the one that is lost."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at SQL. Depths are of queues that are not paused."""

    queues: list[QueueRow]
    living: list[WorkerRow]
    depths: dict[str, Depth]

    def is_waited_for(self, queue: str) -> bool:
        """Say whether something waits there that could be claimed now."""
        depth = self.depths.get(queue, Depth())
        return depth.claimable + depth.suspects + depth.lines + depth.suspect_lines > 0

    def workers_of(self, queue: str) -> list[WorkerRow]:
        """Return the living workers that go on serving a queue."""
        return [worker for worker in self.living if worker.queue == queue and stays(worker)]


def look(database: Database) -> Sight:
    """Read what both decisions need."""
    return database.read(
        lambda connection: Sight(
            queues.all_queues(connection), workers.living(connection), queues.claimable_up_to(connection, COUNTED_JOBS)
        )
    )


@dataclass(frozen=True, slots=True)
class Need:
    """Hints that a queue lacks."""

    queue: str
    width: int
    count: int
    suspects: bool = False


def hints_to_send(sight: Sight, depths: Mapping[str, int]) -> Iterator[Need]:
    """Compare what waits in SQL with the hints that wait in Redis."""
    for row in sight.queues:
        depth = sight.depths.get(row.name, Depth())
        serving = sight.workers_of(row.name)
        width = max(NARROWEST, hint_width(sum(worker.slots for worker in serving)))
        missing = min(depth.claimable + depth.lines, HINTS_PER_WORKER * max(1, len(serving))) - depths.get(row.name, 0)
        if missing > 0:
            yield Need(row.name, width, missing)
        elif _has_idle_worker(sight, row) and _is_sibling_busy(sight, row):
            yield Need(row.name, width, 1)
        if depth.suspects or depth.suspect_lines:
            yield Need(row.name, width, 1, suspects=True)


def _has_idle_worker(sight: Sight, row: QueueRow) -> bool:
    idle = (worker.in_flight == 0 and worker.state == EngineState.READY for worker in sight.workers_of(row.name))
    return row.name in sight.depths and any(idle)


def _is_sibling_busy(sight: Sight, row: QueueRow) -> bool:
    siblings = (other.name for other in sight.queues if other.model == row.model and other.name != row.name)
    depths = (sight.depths.get(name, Depth()) for name in siblings)
    return any(depth.claimable + depth.lines > 0 for depth in depths)


def moves_to_make(sight: Sight, catalog: Catalog) -> Iterator[tuple[str, str]]:
    """Find the queues in which jobs wait for nobody, and the sibling queue that should have them."""
    for row in sight.queues:
        model = catalog.models.get(row.model)
        if model is None or not sight.is_waited_for(row.name) or sight.workers_of(row.name):
            continue
        places = [place for place in placements_of(model) if place.queue != row.name]
        if not places:
            continue
        target = choose(places, {place.queue: _load(sight, place.queue) for place in places}).queue
        is_removed = len(places) == len(model.devices)
        if is_removed or (sight.workers_of(target) and target in sight.depths):
            yield row.name, target


def _load(sight: Sight, queue: str) -> Load:
    staying = sight.workers_of(queue)
    waiting = sight.depths.get(queue, Depth())
    return Load(
        slots=sum(worker.slots for worker in staying),
        outstanding=waiting.claimable + waiting.suspects + sum(worker.in_flight for worker in staying),
        paused=queue not in sight.depths,
    )
