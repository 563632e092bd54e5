"""What processes tell a worker beside "this queue has work": data, so that sender and receiver agree."""

from __future__ import annotations

from schemas.base import JsonObject

SUSPECTS = {"suspects": True}
"""A hint's second argument when it is for the jobs that were running when a worker was lost."""


def cancel_order(job_id: str, attempt: int) -> JsonObject:
    """Say: stop this attempt, its caller canceled the job."""
    return {"order": "cancel", "job_id": job_id, "attempt": attempt}


def stop_batch_order(number: int) -> JsonObject:
    """Say: stop the lines of this batch, it has ended."""
    return {"order": "stop_batch", "number": number}


def read_stop_batch_order(message: JsonObject) -> int | None:
    """Return the batch's number when the message is an order to stop its lines."""
    match message:
        case {"order": "stop_batch", "number": int(number)}:
            return number
    return None


def read_cancel_order(message: JsonObject) -> tuple[str, int] | None:
    """Return job and attempt when the message is an order to cancel."""
    match message:
        case {"order": "cancel", "job_id": str(job_id), "attempt": int(attempt)}:
            return job_id, attempt
    return None
