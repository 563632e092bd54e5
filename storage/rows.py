"""What SQL rows look like in Python."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def to_json(value: Any) -> str | None:
    """Return compact JSON text for a column; nothing for nothing."""
    return _ENCODER.encode(value) if value else None


def from_json(text: str | None) -> Any:
    """Read a JSON column."""
    return json.loads(text) if text else None


@dataclass(slots=True)  # frozen, making one would cost eight times as much
class JobRow:
    """A row of `jobs`, whole, in the order of its columns; JSON columns still as text."""

    id: str
    caller_id: str
    kind: str
    model: str
    revision: str
    queue: str
    status: str
    rank: float
    priority: str
    attempt: int
    lost: int
    errors: int
    max_attempts: int
    owner: str | None
    cancel_requested: int
    run_at: float | None
    expires_at: float
    timeout_seconds: float
    retention_seconds: float
    created_at: float
    queued_at: float
    started_at: float | None
    finished_at: float | None
    retained_until: float | None
    erased_at: float | None
    deleted_at: float | None
    metadata: str | None
    output: str | None
    artifacts: str | None
    error: str | None
    usage: str | None
    metrics: str | None
    retry_of: str | None
    request_id: str | None
    webhook: str | None
    prefill_tokens: int | None
    max_new_tokens: int | None
    adapters: str | None
    pixel_steps: int | None


@dataclass(slots=True)  # frozen, making one would cost eight times as much
class ClaimedJob:
    """What a worker needs of a job that it has claimed."""

    id: str
    attempt: int
    kind: str
    model: str
    queue: str
    caller_id: str
    lost: int
    errors: int
    max_attempts: int
    timeout_seconds: float
    retention_seconds: float
    rank: float
    queued_at: float
    started_at: float
    request_id: str | None
    webhook: str | None
    prefill_tokens: int | None
    max_new_tokens: int | None
    input: str | None
    object_key: str | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that changed outside a worker's hands: its readers must be told."""

    id: str
    status: str
    attempt: int
    queue: str
