"""A job as its row tells it: what polling, webhooks and batches show alike."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from pydantic_core import from_json

from schemas.base import JsonObject
from schemas.jobs import Status
from storage.objects.port import ObjectStore
from storage.rows import JobRow


def plain(row: JobRow, base: str) -> JsonObject:
    """Return what the row alone tells."""
    at = f"{base}/v1/jobs/{row.id}"
    return {
        "id": row.id,
        "object": "job",
        "kind": row.kind,
        "model": row.model,
        "status": row.status,
        "attempt": row.attempt,
        "output": from_json(row.output) if row.output else None,
        "artifacts": [],
        "error": from_json(row.error) if row.error else None,
        "progress": None,
        "queue": None,
        "metrics": metrics(row),
        "usage": from_json(row.usage) if row.usage else {},
        "metadata": from_json(row.metadata) if row.metadata else {},
        "retry_of": row.retry_of,
        "cancel_requested": bool(row.cancel_requested),
        "created_at": moment(row.created_at),
        "started_at": moment(row.started_at),
        "finished_at": moment(row.finished_at),
        "deadline_at": moment(deadline(row)),
        "retained_until": moment(row.retained_until),
        "urls": {
            "get": at,
            "cancel": f"{at}/cancel",
            "retry": f"{at}/retry",
            "events": f"{at}/events",
            "result": f"{at}/result",
        },
    }


def metrics(row: JobRow) -> JsonObject:
    """Return how long a job waited and ran, and what its worker measured."""
    measured: JsonObject = from_json(row.metrics) if row.metrics else {}
    if row.started_at is not None:
        measured.setdefault("queue_ms", round((row.started_at - row.queued_at) * 1000, 1))
        if row.finished_at is not None:
            measured.setdefault("run_ms", round((row.finished_at - row.started_at) * 1000, 1))
    return measured


def deadline(row: JobRow) -> float | None:
    """Return when a job ends for lack of time: waiting, at its ttl; running, at its timeout."""
    if row.status == Status.QUEUED:
        return row.expires_at
    if row.status == Status.RUNNING and row.started_at is not None:
        return row.started_at + row.timeout_seconds
    return None


def artifacts(row: JobRow, objects: ObjectStore, seconds: int) -> list[JsonObject]:
    """Return what a job produced, with links that work for so many seconds."""
    if not row.artifacts:
        return []
    expires_at = moment(time.time() + seconds)
    return [
        {
            "name": one["name"],
            "url": objects.presign_get(
                one["key"], expires_seconds=seconds, content_type=one["content_type"], filename=one["name"]
            ),
            "content_type": one["content_type"],
            "bytes": one["bytes"],
            "sha256": one["sha256"],
            "expires_at": expires_at,
        }
        for one in from_json(row.artifacts)
    ]


def moment(seconds: float | None) -> str | None:
    """Return a time of the database's clock as RFC 3339 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
