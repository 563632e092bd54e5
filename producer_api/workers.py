"""Workers as people see them."""

from __future__ import annotations

from pydantic_core import from_json

from schemas.base import JsonObject
from storage.workers import WorkerRow
from tasks.views import moment

SUMS = "sums"
"""The part of a worker's stats that is for Prometheus."""
UPLOADED = "lora_"
"""How the ids of adapters begin that callers uploaded."""


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
        "stats": _shown(stats_of(row)),
    }


def _shown(stats: JsonObject) -> JsonObject:
    """Return what everybody may see: of adapters that callers uploaded only how many there are."""
    shown = {name: value for name, value in stats.items() if name != SUMS}
    engine = shown.get("engine") or {}
    if "adapters" in engine:
        listed = [one for one in engine["adapters"] if not one.startswith(UPLOADED)]
        uploaded = len(engine["adapters"]) - len(listed)
        shown["engine"] = {**engine, "adapters": listed, "uploaded_adapters": uploaded}
    return shown


def stats_of(row: WorkerRow) -> JsonObject:
    """Return what a worker told of itself with its last beat."""
    return from_json(row.stats) if row.stats else {}
