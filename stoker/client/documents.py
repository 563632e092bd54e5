"""What the API answers, as light typed objects: `raw` is the whole JSON, fields that we do not know among it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar, cast, overload

T = TypeVar("T")

TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})
"""The statuses that end a job."""


BATCH_TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
"""The statuses that end a batch."""


class Document:
    """One JSON object."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw

    def __getitem__(self, name: str) -> Any:
        return self.raw[name]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.raw == self.raw

    __hash__ = None  # type: ignore[assignment]  # it wraps a mapping, which has no hash either

    def __repr__(self) -> str:
        shown = {name: self.raw[name] for name in ("id", "name", "status", "state") if name in self.raw}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class Field(Generic[T]):
    """A field of a document under its own name; None when the API left it out."""

    def __set_name__(self, owner: type[Document], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, document: None, owner: type[Document]) -> Self: ...
    @overload
    def __get__(self, document: Document, owner: type[Document]) -> T: ...
    def __get__(self, document: Document | None, owner: type[Document]) -> Self | T:
        return self if document is None else self._read(document.raw.get(self._name))

    def _read(self, value: Any) -> T:
        return cast("T", value)


class Moment(Field[datetime | None]):
    """A field that holds a time."""

    def _read(self, value: Any) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class Epoch(Field[datetime | None]):
    """A field that holds a time as OpenAI's objects do: in seconds since 1970."""

    def _read(self, value: Any) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value, UTC)


class Artifact(Document):
    """One object that a job produced; its link is good until `expires_at`."""

    name = Field[str]()
    url = Field[str]()
    content_type = Field[str]()
    bytes = Field[int]()
    sha256 = Field[str]()
    expires_at = Moment()


class JobFailure(Document):
    """Why a job failed."""

    type = Field[str]()
    code = Field[str]()
    message = Field[str]()
    retryable = Field[bool]()


class Job(Document):
    """A job as it was when the API was asked."""

    id = Field[str]()
    kind = Field[str]()
    model = Field[str]()
    status = Field[str]()
    attempt = Field[int]()
    input = Field[dict[str, Any] | None]()
    output = Field[Any]()
    progress = Field[dict[str, Any] | None]()
    queue = Field[dict[str, Any] | None]()
    metrics = Field[dict[str, Any]]()
    usage = Field[dict[str, Any]]()
    metadata = Field[dict[str, Any]]()
    retry_of = Field[str | None]()
    cancel_requested = Field[bool]()
    created_at = Moment()
    started_at = Moment()
    finished_at = Moment()
    deadline_at = Moment()
    retained_until = Moment()
    urls = Field[dict[str, str]]()

    @property
    def artifacts(self) -> list[Artifact]:
        """What it produced."""
        return [Artifact(one) for one in self.raw.get("artifacts") or ()]

    @property
    def error(self) -> JobFailure | None:
        """Why it failed, when it did."""
        told = self.raw.get("error")
        return JobFailure(told) if told else None

    @property
    def has_ended(self) -> bool:
        """Whether its status is one that never changes."""
        return self.status in TERMINAL

    @property
    def has_succeeded(self) -> bool:
        """Whether it ended well."""
        return self.status == "succeeded"


class Batch(Document):
    """A batch as it was when the API was asked."""

    id = Field[str]()
    endpoint = Field[str]()
    input_file_id = Field[str]()
    completion_window = Field[str]()
    status = Field[str]()
    paused = Field[bool]()
    output_file_id = Field[str | None]()
    error_file_id = Field[str | None]()
    usage = Field[dict[str, Any]]()
    metadata = Field[dict[str, str] | None]()
    created_at = Epoch()
    in_progress_at = Epoch()
    expires_at = Epoch()
    finalizing_at = Epoch()
    completed_at = Epoch()
    failed_at = Epoch()
    expired_at = Epoch()
    cancelling_at = Epoch()
    cancelled_at = Epoch()

    @property
    def total(self) -> int:
        """How many lines it has; 0 until its file is validated."""
        return int(self.raw["request_counts"]["total"])

    @property
    def completed(self) -> int:
        """How many lines have their answer."""
        return int(self.raw["request_counts"]["completed"])

    @property
    def failed(self) -> int:
        """How many lines ended without an answer; the error file says why."""
        return int(self.raw["request_counts"]["failed"])

    @property
    def flaws(self) -> list[dict[str, Any]]:
        """Why its file cannot be a batch: `line`, `code` and `message` of each flaw."""
        return list((self.raw.get("errors") or {}).get("data") or ())

    @property
    def has_ended(self) -> bool:
        """Whether its status is one that never changes."""
        return self.status in BATCH_TERMINAL


class Model(Document):
    """A model of the catalog."""

    id = Field[str]()
    kind = Field[str]()
    engine = Field[str]()
    description = Field[str]()
    languages = Field[list[str]]()
    placements = Field[list[dict[str, Any]]]()
    context_length = Field[int]()
    adapters = Field[list[dict[str, Any]]]()
    base_model = Field[str | None]()


class Lora(Document):
    """An adapter."""

    id = Field[str]()
    name = Field[str]()
    base_model = Field[str]()
    kind = Field[str]()
    rank = Field[int | None]()
    bytes = Field[int | None]()
    sha256 = Field[str | None]()
    shared = Field[bool]()
    source = Field[str]()
    description = Field[str]()
    resident_on = Field[list[str]]()
    created_at = Moment()


class Worker(Document):
    """A living worker."""

    id = Field[str]()
    model = Field[str]()
    device = Field[str]()
    queue = Field[str]()
    host = Field[str]()
    pid = Field[int]()
    state = Field[str]()
    slots = Field[int]()
    in_flight = Field[int]()
    draining = Field[bool]()
    started_at = Moment()
    beat_at = Moment()
    stats = Field[dict[str, Any]]()


class Queue(Document):
    """A queue: one model on one device."""

    name = Field[str]()
    kind = Field[str]()
    model = Field[str]()
    device = Field[str]()
    paused = Field[bool]()
    depth = Field[dict[str, int | None]]()
    wait_ms = Field[dict[str, float]]()
    run_ms = Field[dict[str, float]]()

    @property
    def workers(self) -> list[Worker]:
        """The living workers that serve it."""
        return [Worker(one) for one in self.raw.get("workers") or ()]


class Drain(Document):
    """What draining a queue did: `moved` jobs and lines of batches wait in `moved_to` now."""

    name = Field[str]()
    moved_to = Field[str | None]()
    moved = Field[int]()


class Key(Document):
    """An API key; `key`, the secret, is there only in the answer that made it."""

    id = Field[str]()
    key = Field[str | None]()
    name = Field[str]()
    caller = Field[str]()
    hint = Field[str | None]()
    scopes = Field[list[str]]()
    created_at = Moment()
    expires_at = Moment()
    revoked_at = Moment()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in an attempt of a job; resume after it by its `id`."""

    attempt: int
    seq: int
    type: str
    at: float
    data: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Its id on the wire."""
        return f"{self.attempt}-{self.seq}"
