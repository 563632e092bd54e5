"""The shapes of our answers beside the job's own, for documentation and for the tests that hold us to it."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from schemas.base import JsonObject, Strict
from schemas.image import SafetyMode
from schemas.jobs import Artifact, Job, Status


class ErrorDetail(Strict):
    """What went wrong, and what to do about it."""

    type: str
    code: str = Field(description="For programs: it does not change.")
    message: str = Field(description="For people: one sentence.")
    param: str | None = Field(description="The field, parameter or header at fault.")
    request_id: str | None = Field(description="Under which our log has the rest; also in X-Request-Id.")


class ErrorAnswer(Strict):
    """Every error looks like this."""

    error: ErrorDetail


class JobPage(Strict):
    """Some jobs, newest first; without their inputs."""

    object: Literal["list"]
    data: list[Job]
    has_more: bool
    next_cursor: str | None = Field(description="Send it as `after` to get the next page.")


class ArtifactList(Strict):
    """What a job produced."""

    object: Literal["list"]
    data: list[Artifact]


class Pending(Strict):
    """A job that has no result yet."""

    id: str
    object: Literal["job"]
    status: Status


class QueueDepth(Strict):
    """How many jobs a queue has in which state."""

    queued: int
    scheduled: int
    running: int
    lines: int = Field(description="Lines of batches that wait.")
    running_lines: int
    hints: int | None = Field(description="Messages on the broker's list; null while it does not answer.")


class WorkerAnswer(Strict):
    """A living worker."""

    id: str
    object: Literal["worker"]
    model: str
    device: str
    queue: str
    host: str
    pid: int
    state: str
    slots: int
    in_flight: int
    draining: bool
    started_at: AwareDatetime
    beat_at: AwareDatetime
    lease_until: AwareDatetime
    stats: JsonObject


class QueueAnswer(Strict):
    """A queue."""

    name: str
    object: Literal["queue"]
    kind: str
    model: str
    device: str
    paused: bool
    depth: QueueDepth
    wait_ms: dict[str, float] = Field(description="How long the last jobs waited: p50, p95, p99.")
    run_ms: dict[str, float]
    workers: list[WorkerAnswer]


class QueueList(Strict):
    """All queues."""

    object: Literal["list"]
    data: list[QueueAnswer]


class PurgeAnswer(Strict):
    """What a purge did."""

    object: Literal["queue.purge"]
    name: str
    canceled: int


class DrainAnswer(Strict):
    """What a drain did: `moved` jobs and lines of batches wait in `moved_to` now."""

    object: Literal["queue.drain"]
    name: str
    moved_to: str | None
    moved: int


class WorkerList(Strict):
    """All workers."""

    object: Literal["list"]
    data: list[WorkerAnswer]


class WorkerDrainAnswer(Strict):
    """A worker that was asked to stop."""

    object: Literal["worker.drain"]
    id: str
    draining: bool


class PlacementAnswer(Strict):
    """A model on a device."""

    device: str
    queue: str
    state: str


class AdapterAnswer(Strict):
    """A model's adapter."""

    id: str
    name: str
    description: str
    resident_on: list[str] = Field(description="The queues whose workers have it in memory.")


class ModelAnswer(Strict):
    """A model of the catalog."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    kind: str
    engine: str
    description: str
    languages: list[str]
    placements: list[PlacementAnswer]
    adapters: list[AdapterAnswer]
    base_model: str | None = Field(description="Of `model:adapter`: the model. Native jobs name the two apart.")
    context_length: int
    max_in_flight: int
    timeout_seconds: float


class ModelList(Strict):
    """All models."""

    object: Literal["list"]
    data: list[ModelAnswer]


class KeyAnswer(Strict):
    """An API key without its secret."""

    id: str
    object: Literal["key"]
    name: str
    caller: str
    hint: str
    scopes: list[str]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None


class KeyList(Strict):
    """Some keys."""

    object: Literal["list"]
    data: list[KeyAnswer]


class NewKeyAnswer(Strict):
    """A key that was just made."""

    id: str
    object: Literal["key"]
    key: str = Field(description="The secret. It is shown this once.")
    name: str
    caller: str
    scopes: list[str]
    expires_at: AwareDatetime | None


class HealthAnswer(Strict):
    """Whether jobs are accepted."""

    status: Literal["ready", "degraded", "unavailable"]
    degraded: list[str] = Field(description="The stores that do not answer: database, redis, objects.")


class LiveAnswer(Strict):
    """The process answers."""

    status: Literal["live"]


class EmbeddingAnswer(Strict):
    """One text's vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="Numbers, or base64 of little-endian 32-bit floats.")


class EmbeddingUsage(Strict):
    """What was read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Strict):
    """The vectors, in the order of the texts."""

    object: Literal["list"]
    data: list[EmbeddingAnswer]
    model: str
    usage: EmbeddingUsage


class ImageAnswer(Strict):
    """One picture: a link to it, or the picture itself."""

    url: str | None = None
    b64_json: str | None = None


class SafetyAnswer(Strict):
    """What a safety checker did."""

    mode: SafetyMode
    checker: str | None
    blocked: int = Field(description="So many pictures are not given out.")


class ImageList(Strict):
    """The pictures."""

    created: int
    data: list[ImageAnswer]
    safety: SafetyAnswer | None = Field(None, description="Not OpenAI's; there when pictures are missing.")


class CalledFunctionAnswer(Strict):
    """The function that is to be called."""

    name: str
    arguments: str = Field(description="JSON, as the model wrote it.")


class ToolCallAnswer(Strict):
    """A call that the model wants made."""

    id: str
    type: Literal["function"]
    function: CalledFunctionAnswer


class ChatMessage(Strict):
    """The assistant's turn."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCallAnswer] | None = None


class ChatChoice(Strict):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: None
    finish_reason: Literal["stop", "length", "tool_calls"]


class CachedTokens(Strict):
    """What of the prompt was known already."""

    cached_tokens: int


class ChatUsage(Strict):
    """What was read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class ChatCompletion(Strict):
    """The answers; with `stream` they come as server-sent events of the type `chat.completion.chunk`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: None
    choices: list[ChatChoice]
    usage: ChatUsage


class LoraJob(Job):
    """A job whose result is at the top; its metrics have `latency_ms`, `tokens` and `gpu`, too."""

    result: str | None = Field(
        description="Once the job has succeeded: the text, or the address of the first picture that was not blocked."
    )
