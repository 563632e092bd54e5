"""Batches as callers see them, in answers and in webhooks alike: OpenAI's object, and whether it is paused."""

from __future__ import annotations

from pydantic_core import from_json

from schemas.base import JsonObject
from storage.batches import BatchRow

MOMENTS = (
    *("created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at"),
    *("failed_at", "expired_at", "cancelling_at", "cancelled_at"),
)


def batch_view(row: BatchRow) -> JsonObject:
    """Return a batch as OpenAI's clients know it; times are epoch seconds."""
    return {
        "id": row.id,
        "object": "batch",
        "endpoint": row.endpoint,
        "input_file_id": row.input_file_id,
        "completion_window": row.completion_window,
        "status": row.status,
        "paused": bool(row.paused),
        "output_file_id": row.output_file_id,
        "error_file_id": row.error_file_id,
        "errors": {"object": "list", "data": from_json(row.errors)} if row.errors else None,
        **{name: _seconds(getattr(row, name)) for name in MOMENTS},
        "request_counts": {"total": row.total, "completed": row.completed, "failed": row.failed},
        "usage": _usage(row),
        "metadata": from_json(row.metadata) if row.metadata else None,
    }


def _seconds(moment: float | None) -> int | None:
    return None if moment is None else int(moment)


def _usage(row: BatchRow) -> JsonObject:
    return {
        "input_tokens": row.prompt_tokens,
        "input_tokens_details": {"cached_tokens": row.cached_tokens or 0},
        "output_tokens": row.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": row.prompt_tokens + row.completion_tokens,
    }
