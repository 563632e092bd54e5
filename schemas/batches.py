"""Batches: their life, what asks for one, what a line of their files looks like, and what can be wrong with it."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from schemas.base import JsonObject, Strict
from schemas.files import DAY_SECONDS, ExpiresAfter
from schemas.jobs import Kind

CUSTOM_ID_CHARACTERS = 512
METADATA_PAIRS = 16
LONGEST_WINDOW_DAYS = 7
WINDOW = re.compile(r"([1-9][0-9]{0,4})([mhd])")
WINDOW_UNITS = {"m": 60, "h": 3600, "d": DAY_SECONDS}


class BatchStatus(StrEnum):
    """Where a batch is in its life."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


BATCH_TRANSITIONS: dict[BatchStatus, frozenset[BatchStatus]] = {
    BatchStatus.VALIDATING: frozenset(
        {BatchStatus.IN_PROGRESS, BatchStatus.FINALIZING, BatchStatus.FAILED, BatchStatus.CANCELLING}
    ),
    BatchStatus.IN_PROGRESS: frozenset({BatchStatus.FINALIZING, BatchStatus.CANCELLING}),
    BatchStatus.FINALIZING: frozenset({BatchStatus.COMPLETED, BatchStatus.EXPIRED}),
    BatchStatus.CANCELLING: frozenset({BatchStatus.CANCELLED}),
    BatchStatus.FAILED: frozenset(),
    BatchStatus.COMPLETED: frozenset(),
    BatchStatus.EXPIRED: frozenset(),
    BatchStatus.CANCELLED: frozenset(),
}
"""What may follow what. When its files are being made no line runs any more: it is finalizing, or cancelling."""

BATCH_ENDS = frozenset(status for status, following in BATCH_TRANSITIONS.items() if not following)
"""The statuses that end a batch."""


class LineStatus(StrEnum):
    """Where a line is in its life."""

    QUEUED = "queued"
    HELD = "held"  # its batch is paused
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class LineEnd(StrEnum):
    """Why a line ended without having an answer of its own."""

    EXPIRED = "batch_expired"
    CANCELLED = "batch_cancelled"
    WORKER_LOST = "worker_lost"
    MODEL_REMOVED = "model_removed"


class Endpoint(StrEnum):
    """What a batch may ask for; all of its lines ask for the same."""

    CHAT_COMPLETIONS = "/v1/chat/completions"
    EMBEDDINGS = "/v1/embeddings"
    IMAGES = "/v1/images/generations"
    JOBS = "/v1/jobs"  # lines whose bodies are `{kind, model, input}`


def window_seconds(text: str) -> int:
    """Return the length of a completion window such as `24h`; ValueError when it is none."""
    match = WINDOW.fullmatch(text)
    seconds = int(match[1]) * WINDOW_UNITS[match[2]] if match else 0
    if not 0 < seconds <= LONGEST_WINDOW_DAYS * DAY_SECONDS:
        message = f"write a number and m, h or d, such as '24h', of {LONGEST_WINDOW_DAYS} days at most"
        raise ValueError(message)
    return seconds


def _check_window(text: str) -> str:
    window_seconds(text)
    return text


Window = Annotated[str, AfterValidator(_check_window), Field(description="How long it may take: `24h`, or 1m to 7d.")]
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=METADATA_PAIRS, description="Yours; comes back as sent."),
]


class BatchRequest(Strict):
    """A request to run the lines of an uploaded file."""

    input_file_id: str = Field(min_length=1, max_length=100, description="A file of the purpose `batch`.")
    endpoint: Endpoint
    completion_window: Window
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = Field(None, description="How long output and error file are kept.")


class PlainLine(Strict):
    """A line of a batch that brings its lines along."""

    custom_id: str | None = Field(None, min_length=1, max_length=CUSTOM_ID_CHARACTERS)
    kind: Kind
    model: str = Field(min_length=1, max_length=128)
    input: JsonObject


class RequestLine(Strict):
    """A line of a batch's file; what is in `body` is judged when the line runs."""

    custom_id: str = Field(min_length=1, max_length=CUSTOM_ID_CHARACTERS)
    method: Literal["POST"]
    url: Endpoint
    body: JsonObject


class Flaw(Strict):
    """Why a file cannot be a batch: one line, or the whole when there is no number."""

    code: str
    line: int | None
    message: str
    param: str | None = None
