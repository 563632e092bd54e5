"""Jobs: their kinds, their life, what a caller sends and what a caller sees."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, JsonValue, field_validator

from schemas.base import JsonObject, Strict
from schemas.embedding import EmbeddingInput
from schemas.image import ImageInput
from schemas.text import TextInput
from schemas.webhooks import JobWebhook

METADATA_KEYS = 50
METADATA_CHARACTERS = 4096
NUL_IN_JSON = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
LOST_LIMIT = 3
"""A job whose worker was lost this many times is `failed: worker_lost`."""


class Kind(StrEnum):
    """What a job produces."""

    TEXT = "text"
    IMAGE = "image"
    EMBEDDING = "embedding"


class Status(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELED, Status.EXPIRED, Status.FAILED}),
    Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.QUEUED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELED: frozenset(),
    Status.EXPIRED: frozenset(),
}
"""What may follow what. Terminal states never change; a queued job fails when its model is removed."""

TERMINAL = frozenset(status for status, following in TRANSITIONS.items() if not following)
"""The statuses that end a job."""


class Priority(StrEnum):
    """The class that a job waits in."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Policy(Strict):
    """How a job may wait, run and be retried."""

    priority: Priority = Priority.NORMAL
    ttl_seconds: float = Field(86_400, gt=0, le=30 * 86_400, description="Expires when it has not begun by then.")
    timeout_seconds: float | None = Field(None, gt=0, le=86_400, description="At most the model's own timeout.")
    max_attempts: int = Field(3, ge=1, le=10, description="Attempts before a retryable engine error fails the job.")
    run_at: AwareDatetime | None = Field(None, description="Not before this moment (RFC 3339).")


class JobFields(Strict):
    """What a request for a job of any kind may say."""

    model: str = Field(min_length=1, max_length=128, description="A model's alias: GET /v1/models lists them.")
    policy: Policy = Policy()
    retention_seconds: float | None = Field(None, gt=0, le=365 * 86_400, description="How long the result is kept.")
    webhook: JobWebhook | None = Field(None, description="Where this job's events go.")
    metadata: dict[str, JsonValue] = Field(
        default_factory=dict, description="Yours; filters lists, comes back as sent."
    )

    @field_validator("metadata")
    @classmethod
    def _metadata_is_storable(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if len(value) > METADATA_KEYS:
            message = f"metadata has {len(value)} keys; at most {METADATA_KEYS} are kept"
            raise ValueError(message)
        text = _json_of(value)
        if len(text) > METADATA_CHARACTERS:
            message = f"metadata is longer than {METADATA_CHARACTERS} characters of JSON; store the rest on your side"
            raise ValueError(message)
        if NUL_IN_JSON.search(text):
            message = "metadata holds a NUL character, which cannot be stored; take it out"
            raise ValueError(message)
        return value


def _json_of(value: dict[str, JsonValue]) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        message = "metadata holds NaN or Infinity, which JSON does not know; send null instead"
        raise ValueError(message) from None


class TextJob(JobFields):
    """A request for generated text."""

    kind: Literal[Kind.TEXT]
    input: TextInput


class ImageJob(JobFields):
    """A request for images."""

    kind: Literal[Kind.IMAGE]
    input: ImageInput


class EmbeddingJob(JobFields):
    """A request for embeddings."""

    kind: Literal[Kind.EMBEDDING]
    input: EmbeddingInput


JobRequest = Annotated[TextJob | ImageJob | EmbeddingJob, Field(discriminator="kind")]
"""The body of POST /v1/jobs."""


class QueueReason(StrEnum):
    """Why a job waits."""

    CAPACITY = "capacity"
    NO_WORKER = "no_worker"
    LOADING = "loading"
    PAUSED = "paused"
    SCHEDULED = "scheduled"


class QueuePlace(Strict):
    """Where a queued job stands."""

    name: str
    position: int | None
    position_is_minimum: bool = False
    eta_seconds: float | None
    reason: QueueReason


class Artifact(Strict):
    """One object that a job produced."""

    name: str
    url: str
    content_type: str
    bytes: int
    sha256: str
    expires_at: AwareDatetime


class JobErrorView(Strict):
    """Why a job failed."""

    type: str
    code: str
    message: str
    retryable: bool


class Progress(Strict):
    """How far a running job is."""

    fraction: float | None = None
    stage: str | None = None
    preview_url: str | None = None


class JobUrls(Strict):
    """Addresses to follow."""

    get: str
    cancel: str
    retry: str
    events: str
    result: str


class Job(Strict):
    """A job as its caller sees it."""

    id: str
    object: Literal["job"] = "job"
    kind: Kind
    model: str
    status: Status
    attempt: int
    input: JsonObject | None = None
    output: Any = None
    artifacts: list[Artifact]
    error: JobErrorView | None
    progress: Progress | None
    queue: QueuePlace | None
    metrics: JsonObject
    usage: JsonObject
    metadata: JsonObject
    retry_of: str | None
    cancel_requested: bool
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    deadline_at: AwareDatetime | None
    retained_until: AwareDatetime | None
    urls: JobUrls
