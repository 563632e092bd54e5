"""Queues as people see and steer them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from producer_api.services import Services
from producer_api.webhooks import Webhooks
from producer_api.workers import worker_view
from schemas.base import JsonObject
from schemas.errors import FaultError, NotFoundError
from storage import batch_upkeep, queues, workers
from storage.queues import Depth, QueueRow
from storage.workers import WorkerRow
from tasks.dispatch import Dispatcher, QueueLoad, hint_width, percentiles
from tasks.freshness import Fresh
from tasks.routing import parse_queue, placements_of

DEPTH_SECONDS = 1.0
"""Counting a million rows takes a while: whoever asks again within this time gets the same figures."""
ROWS_AT_ONCE = 1000
"""A million rows at once would keep every other writer waiting."""
UNKNOWN_SLOTS = 8


class Queues:
    """Looks at queues, and does what admins ask."""

    def __init__(self, services: Services, dispatcher: Dispatcher, webhooks: Webhooks) -> None:
        self._services = services
        self._dispatcher = dispatcher
        self._webhooks = webhooks
        self._depths = Fresh(lambda: services.database.aread(queues.depths), DEPTH_SECONDS)

    async def list(self) -> list[JsonObject]:
        """Return every queue that was ever declared."""
        rows, living = await self._services.database.aread(_read_all)
        depths = await self._depths.get()
        hints = await self._hints([row.name for row in rows])
        return [
            queue_view(row, depths.get(row.name, Depth()), hints.get(row.name), _of(row.name, living)) for row in rows
        ]

    async def find(self, name: str) -> JsonObject:
        """Return one queue."""
        for view in await self.list():
            if view["name"] == name:
                return view
        raise _unknown(name)

    async def pause(self, name: str, *, paused: bool) -> None:
        """Stop or resume the claims of a queue; a resumed one is hinted at once."""
        if not await self._services.database.atransact(
            lambda connection: queues.pause(connection, name, paused=paused)
        ):
            raise _unknown(name)
        self._forget()
        if not paused:
            self._hint(name)

    async def purge(self, name: str) -> int:
        """Cancel everything that waits in a queue; return how many jobs that were."""
        await self.find(name)
        purged = ROWS_AT_ONCE
        canceled = 0
        while purged == ROWS_AT_ONCE:
            ended = await self._services.database.atransact(lambda c: queues.purge(c, name, ROWS_AT_ONCE))
            purged = len(ended)
            canceled += purged
            self._webhooks.announce()
            with suppress(FaultError):
                await self._services.bell.ring([one.id for one in ended])
        self._forget()
        return canceled

    async def drain(self, name: str) -> JsonObject:
        """Pause a queue and give what waits in it to the model's least loaded other placement that has workers.

        That is jobs and lines of batches alike: nobody else takes them from a paused queue.
        """
        await self.pause(name, paused=True)
        target = await self._sibling(name)
        moved = 0
        if target is not None:
            for move in (queues.move, batch_upkeep.move):
                batch = ROWS_AT_ONCE
                while batch == ROWS_AT_ONCE:
                    batch = await self._services.database.atransact(
                        partial(move, source=name, target=target, limit=ROWS_AT_ONCE)
                    )
                    moved += batch
            self._forget()
            self._hint(target)
        return {"moved_to": target, "moved": moved}

    def _forget(self) -> None:
        """Show at once what was just done; other processes show it within a second."""
        self._depths.forget()
        self._dispatcher.forget()

    async def _sibling(self, name: str) -> str | None:
        loads = await self._dispatcher.loads()
        model = self._services.catalog.models.get(parse_queue(name).model)
        others = [place.queue for place in placements_of(model) if place.queue != name] if model else []
        known = {queue: loads.get(queue, QueueLoad()) for queue in others}
        usable = {queue: load for queue, load in known.items() if load.slots and not load.paused}
        return min(usable, key=lambda queue: usable[queue].waiting / usable[queue].slots, default=None)

    def _hint(self, name: str) -> None:
        model = self._services.catalog.models.get(parse_queue(name).model)
        self._services.hints.send(name, width=hint_width(model.max_in_flight if model else UNKNOWN_SLOTS))

    async def _hints(self, names: Sequence[str]) -> dict[str, int]:
        try:
            return await self._services.hints.depths(names)
        except FaultError:
            return {}


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"There is no queue '{name[:100]}'; GET /v1/queues lists those there are.")


def _read_all(connection: Any) -> tuple[list[QueueRow], list[WorkerRow]]:
    return queues.all_queues(connection), workers.living(connection)


def _of(name: str, living: Sequence[WorkerRow]) -> list[WorkerRow]:
    return [worker for worker in living if worker.queue == name]


def queue_view(row: QueueRow, depth: Depth, hints: int | None, living: Sequence[WorkerRow]) -> JsonObject:
    """Return a queue as people see it; `hints` is null while Redis does not answer."""
    return {
        "name": row.name,
        "object": "queue",
        "kind": row.kind,
        "model": row.model,
        "device": row.device,
        "paused": bool(row.paused),
        "depth": {
            "queued": depth.claimable + depth.suspects,
            "scheduled": depth.scheduled,
            "running": depth.running,
            "lines": depth.lines + depth.suspect_lines + depth.scheduled_lines,
            "running_lines": depth.running_lines,
            "hints": hints,
        },
        "wait_ms": _worst("wait_ms", living),
        "run_ms": _worst("run_ms", living),
        "workers": [worker_view(worker) for worker in living],
    }


def _worst(name: str, living: Sequence[WorkerRow]) -> dict[str, float]:
    """Return each percentile of the slowest worker: the one that somebody is waiting for."""
    worst: dict[str, float] = {}
    for worker in living:
        for percentile, milliseconds in percentiles(worker, name).items():
            worst[percentile] = max(milliseconds, worst.get(percentile, 0.0))
    return worst
