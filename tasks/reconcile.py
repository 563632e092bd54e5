"""The reconciler: once a second it makes the world agree with the rows again. Two of them do no harm.

Each duty stands alone: what one cannot do, the others still do, and the next tick tries again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from schemas.catalog import Catalog
from schemas.errors import CatalogError, FaultError
from schemas.jobs import TERMINAL
from storage import batch_upkeep, batches, queues, retention, workers
from storage.database import Database
from storage.rows import Ended
from tasks.balance import Sight, hints_to_send, look, moves_to_make
from tasks.logs import get_logger
from tasks.orders import SUSPECTS

CLOSED_TOGETHER = 20

log = get_logger(__name__)


class HintSender(Protocol):
    """Sends hints, and knows how many wait."""

    def send(self, queue: str, *, width: int, count: int = 1, args: Sequence[Any] = (), ahead: bool = False) -> None:
        """Push hints."""

    def depths(self, queues: Sequence[str]) -> dict[str, int]:
        """Count the waiting hints."""


class Reconciler:
    """The duties, and what must be remembered between two ticks."""

    def __init__(
        self,
        database: Database,
        hints: HintSender,
        *,
        ring: Callable[[Sequence[str]], None],
        has_redis_forgotten: Callable[[], bool],
        read_catalog: Callable[[], Catalog],
    ) -> None:
        self._database = database
        self._hints = hints
        self._ring = ring
        self._has_redis_forgotten = has_redis_forgotten
        self._read_catalog = read_catalog
        self._ticking = threading.Lock()
        self._sight: Sight | None = None
        self._silent: frozenset[str] = frozenset()
        self._failing: set[str] = set()
        self._duties = (
            self.requeue_lost,
            self.expire,
            self.release_scheduled,
            self.fail_removed_models,
            self.move_to_the_living,
            self.notice_amnesia,
            self.top_up_hints,
        )

    def tick(self) -> str:
        """Do every duty once; a tick that meets another one still at work leaves at once."""
        if not self._ticking.acquire(blocking=False):
            return "another tick is still at work"
        self._sight = None
        try:
            failed = [duty.__name__ for duty in self._duties if not self._try(duty)]
        finally:
            self._ticking.release()
        return f"failed: {', '.join(failed)}" if failed else "done"

    def requeue_lost(self) -> None:
        """Give the jobs of lost workers back to their queues; end those that were lost too often.

        A worker must be silent at two looks in a row. When SQL was sick nobody could extend a lease: the first look
        after that finds everybody silent, and by the second those who live have said so.
        """
        silent: frozenset[str] = frozenset()

        def take(connection: Any) -> tuple[list[Ended], list[int]]:
            nonlocal silent
            silent = frozenset(workers.silent(connection))
            return workers.requeue_lost(connection, self._silent & silent), batch_upkeep.requeue_lost(connection)

        changed, lines = self._database.transact(take)
        self._silent = silent - self._silent
        if changed:
            log.warning("Jobs of lost workers were taken back.", jobs={job.id: job.status for job in changed})
        if lines:
            log.warning("Lines of lost workers were taken back.", lines=len(lines))
        self._tell(changed)

    def expire(self) -> None:
        """End the jobs that waited for too long, and the batches whose window is over."""
        self._tell(self._database.transact(retention.expire))
        for closed in self._database.transact(lambda connection: batches.close_windows(connection, CLOSED_TOGETHER)):
            log.info("A batch's window is over.", batch_id=closed.row.id)

    def release_scheduled(self) -> None:
        """Let the jobs and the lines be claimed whose moment has come."""
        self._database.transact(retention.release_scheduled)
        self._database.transact(batch_upkeep.release_scheduled)

    def fail_removed_models(self) -> None:
        """End the jobs that wait for a model which the catalog no longer has."""
        known = self._read_catalog().models
        sight = self._look()
        if any(row.model not in known and sight.is_waited_for(row.name) for row in sight.queues):
            self._sight = None
            self._tell(self._database.transact(lambda connection: retention.fail_removed_models(connection, [*known])))
            self._database.transact(lambda connection: batch_upkeep.fail_removed_models(connection, [*known]))

    def move_to_the_living(self) -> None:
        """Give what waits for a placement without a worker to a placement of the same model that has one."""
        for source, target in moves_to_make(self._look(), self._read_catalog()):
            self._sight = None
            count = self._database.transact(partial(queues.move, source=source, target=target))
            lines = self._database.transact(partial(batch_upkeep.move, source=source, target=target))
            log.info("Work was moved to another placement.", source=source, target=target, jobs=count, lines=lines)

    def notice_amnesia(self) -> None:
        """Say so when Redis lost its memory: every queue with work gets its hints again within this tick."""
        if self._has_redis_forgotten():
            log.warning("Redis is new or has forgotten everything; hints are sent again.")

    def top_up_hints(self) -> None:
        """See to it that every queue with work has hints, and every idle worker whose sibling has too much."""
        sight = self._look()
        depths = self._hints.depths([row.name for row in sight.queues])
        for need in hints_to_send(sight, depths):
            args = [SUSPECTS] if need.suspects else []
            self._hints.send(need.queue, width=need.width, count=need.count, args=args, ahead=need.suspects)

    def _look(self) -> Sight:
        """Return what this tick knows of the queues: it looks once, and again after it has changed something."""
        if self._sight is None:
            self._sight = look(self._database)
        return self._sight

    def _try(self, duty: Callable[[], None]) -> bool:
        name = duty.__name__
        try:
            duty()
        except (FaultError, CatalogError) as error:
            if name not in self._failing:
                log.warning("A duty cannot be done now; every tick tries it again.", duty=name, why=str(error))
            self._failing.add(name)
        except Exception:
            log.exception("A duty failed.", duty=name)
            self._failing.add(name)
        else:
            if name in self._failing:
                log.info("A duty can be done again.", duty=name)
            self._failing.discard(name)
        return name not in self._failing

    def _tell(self, changed: Sequence[Ended]) -> None:
        ended = [job.id for job in changed if job.status in TERMINAL]
        if ended:
            self._ring(ended)
