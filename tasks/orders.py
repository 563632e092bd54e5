"""The orders that a worker takes over the control line: data, so that sender and receiver agree."""

from __future__ import annotations

from schemas.base import JsonObject


def cancel_order(job_id: str, attempt: int) -> JsonObject:
    """Say: stop this attempt, its caller canceled the job."""
    return {"order": "cancel", "job_id": job_id, "attempt": attempt}


def read_cancel_order(message: JsonObject) -> tuple[str, int] | None:
    """Return job and attempt when the message is an order to cancel."""
    match message:
        case {"order": "cancel", "job_id": str(job_id), "attempt": int(attempt)}:
            return job_id, attempt
    return None
