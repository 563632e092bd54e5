"""Workers as people see them."""

from __future__ import annotations

from pydantic_core import from_json

from schemas.base import JsonObject
from storage.workers import WorkerRow
from tasks.views import moment

SUMS = "sums"
"""The part of a worker's stats that is for Prometheus."""


def worker_view(row: WorkerRow) -> JsonObject:
    """Return a living worker."""
    return {
        "id": row.id,
        "object": "worker",
        "model": row.model,
        "device": row.device,
        "queue": row.queue,
        "host": row.host,
        "pid": row.pid,
        "state": row.state,
        "slots": row.slots,
        "in_flight": row.in_flight,
        "draining": bool(row.drain_requested),
        "started_at": moment(row.started_at),
        "beat_at": moment(row.beat_at),
        "lease_until": moment(row.lease_until),
        "stats": {name: value for name, value in stats_of(row).items() if name != SUMS},
    }


def stats_of(row: WorkerRow) -> JsonObject:
    """Return what a worker told of itself with its last beat."""
    return from_json(row.stats) if row.stats else {}
