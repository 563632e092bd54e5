"""From a valid request to a row: what the model allows, which placement takes the job, how the row looks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.catalog import Catalog, Model
from schemas.errors import InvalidError
from schemas.ids import new_id
from schemas.jobs import EmbeddingJob, ImageJob, Policy, TextJob
from storage import queues, workers
from storage.database import Database
from storage.hints import WIDTH_PER_SLOT
from storage.jobs import NewJob
from storage.queues import Depth, QueueRow
from storage.rows import from_json
from storage.workers import WorkerRow
from tasks.engine import EngineState
from tasks.freshness import Fresh
from tasks.inputs import check_input
from tasks.ranking import rank
from tasks.routing import Load, Placement, choose, must_make, placements_of

Request = TextJob | ImageJob | EmbeddingJob

HINT_TASK = "jobs.run"
"""The task that a hint calls, with its queue as the argument."""

COUNTED_JOBS = 1000
"""How far a queue is counted: more than any width of its hints, and enough to be compared with others."""
LOADS_SECONDS = 1.0
FARTHEST_RUN_AT_SECONDS = 365 * 86_400
COMING = (EngineState.NEW, EngineState.LOADING, EngineState.WARMING)


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """What is known of a queue: its living workers, what they hold, what waits before a new job."""

    paused: bool = False
    slots: int = 0
    in_flight: int = 0
    waiting: int = 0
    run_ms: float | None = None
    states: frozenset[str] = frozenset()
    adapters: frozenset[str] = frozenset()
    """The ids of those that a worker has in memory."""

    @property
    def is_loading(self) -> bool:
        """Say whether there are workers and none of them is ready yet."""
        return bool(self.states) and self.states <= frozenset(COMING)


def measure(
    rows: Sequence[QueueRow], living: Sequence[WorkerRow], depths: Mapping[str, Depth]
) -> dict[str, QueueLoad]:
    """Put together what SQL says about every queue."""
    of_queue: dict[str, list[WorkerRow]] = {}
    for worker in living:
        of_queue.setdefault(worker.queue, []).append(worker)
    return {row.name: _measure(row, of_queue.get(row.name, []), depths.get(row.name, Depth())) for row in rows}


def stays(worker: WorkerRow) -> bool:
    """Say whether a living worker goes on serving its queue."""
    return not worker.drain_requested and worker.state not in (EngineState.DRAINING, EngineState.DEAD)


def _measure(row: QueueRow, living: Sequence[WorkerRow], depth: Depth) -> QueueLoad:
    staying = [worker for worker in living if stays(worker)]
    told = [from_json(worker.stats) or {} for worker in staying]
    times = [time for time in (stats.get("run_ms", {}).get("p50") for stats in told) if time is not None]
    return QueueLoad(
        paused=bool(row.paused),
        slots=sum(worker.slots for worker in staying),
        in_flight=sum(worker.in_flight for worker in staying),
        waiting=depth.claimable + depth.suspects,
        run_ms=sum(times) / len(times) if times else None,
        states=frozenset(worker.state for worker in staying),
        adapters=frozenset(one for stats in told for one in (stats.get("engine") or {}).get("adapters", ())),
    )


def percentiles(worker: WorkerRow, name: str) -> dict[str, float]:
    """Return what a worker has measured, such as its `wait_ms`: a percentile for each of its names."""
    measured: dict[str, float] = (from_json(worker.stats) or {}).get(name, {})
    return measured


def resident_on(model: Model, adapter_id: str, loads: Mapping[str, QueueLoad]) -> list[str]:
    """Return the queues whose workers have an adapter in memory."""
    queues_of_model = [place.queue for place in placements_of(model)]
    return [queue for queue in queues_of_model if adapter_id in loads.get(queue, QueueLoad()).adapters]


class Dispatcher:
    """Chooses placements by loads that are read once a second, whatever the number of submits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loads = Fresh(self._read, LOADS_SECONDS)
        self._placed: Counter[str] = Counter()

    async def loads(self) -> Mapping[str, QueueLoad]:
        """Return the load of every queue, about a second old at most."""
        return await self._loads.get()

    def forget(self) -> None:
        """Have the loads read anew: somebody has just steered a queue."""
        self._loads.forget()

    async def place(self, model: Model, adapters: Sequence[str] = ()) -> Placement:
        """Choose the placement for one more job of a model with these adapters."""
        candidates = placements_of(model)
        if len(candidates) == 1:
            return candidates[0]
        loads = await self.loads()
        known = {place.queue: self._load(place.queue, loads.get(place.queue, QueueLoad())) for place in candidates}
        chosen = choose(candidates, known, adapters)
        self._placed[chosen.queue] += 1
        return chosen

    def _load(self, queue: str, load: QueueLoad) -> Load:
        return Load(load.slots, load.in_flight + load.waiting + self._placed[queue], load.paused, load.adapters)

    async def _read(self) -> dict[str, QueueLoad]:
        self._placed.clear()
        return await self._database.aread(
            lambda connection: measure(
                queues.all_queues(connection),
                workers.living(connection),
                queues.claimable_up_to(connection, COUNTED_JOBS),
            )
        )


def hint_width(slots: int) -> int:
    """Return how many hints a queue's list holds at most: enough that no slot idles, few enough to lose."""
    return WIDTH_PER_SLOT * slots


def declare_queues(database: Database, catalog: Catalog) -> None:
    """Make sure that every placement's queue can be seen, paused and counted before its worker has ever lived."""
    rows = [
        QueueRow(place.queue, place.kind, place.model, place.device, paused=0)
        for model in catalog.models.values()
        for place in placements_of(model)
    ]
    database.transact(lambda connection: queues.declare(connection, rows))


def check_request(request: Request, model: Model, now: float) -> None:
    """Refuse what this model can certainly not do, with a sentence that names the field."""
    policy = request.policy
    must_make(model, request.kind)
    if policy.timeout_seconds is not None and policy.timeout_seconds > model.timeout_seconds:
        raise InvalidError(
            f"'policy.timeout_seconds' is {policy.timeout_seconds:g}, and '{model.alias}' allows at most "
            f"{model.timeout_seconds:g}; ask for less or leave it out.",
            param="policy.timeout_seconds",
        )
    if policy.run_at is not None and policy.run_at.timestamp() > now + FARTHEST_RUN_AT_SECONDS:
        raise InvalidError(
            "'policy.run_at' is more than a year away; choose an earlier moment.", param="policy.run_at"
        )
    check_input(request.input, model)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks for a job, and by which request."""

    caller_id: str
    request_id: str | None = None
    idempotency_key: str | None = None
    base: str = ""
    """What the links in its webhooks begin with."""


def new_job(
    request: Request, model: Model, place: Placement, origin: Origin, *, now: float, kept_seconds: float
) -> NewJob:
    """Lay out the row of a job that begins to wait now, or at its run_at when that is still to come."""
    policy = request.policy
    run_at = _later(policy, now)
    ready_at = run_at or now
    return NewJob(
        id=new_id("job"),
        caller_id=origin.caller_id,
        kind=model.kind.value,
        model=model.alias,
        revision=model.revision,
        queue=place.queue,
        rank=rank(policy.priority, ready_at),
        priority=policy.priority.value,
        max_attempts=policy.max_attempts,
        run_at=run_at,
        expires_at=ready_at + policy.ttl_seconds,
        timeout_seconds=policy.timeout_seconds or model.timeout_seconds,
        retention_seconds=request.retention_seconds or kept_seconds,
        created_at=now,
        metadata=json.dumps(request.metadata, ensure_ascii=False, separators=(",", ":")) if request.metadata else None,
        retry_of=None,
        request_id=origin.request_id,
    )


def _later(policy: Policy, now: float) -> float | None:
    moment = policy.run_at.timestamp() if policy.run_at else now
    return moment if moment > now else None
