"""What callers may ask of batches, and the shapes of the answers."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.base import JsonObject, Strict
from schemas.batches import BatchRequest, BatchStatus, Endpoint, Flaw, Metadata, PlainLine, Window
from schemas.files import ExpiresAfter
from schemas.webhooks import BatchWebhook

LIST_LIMIT = 100


class BatchWanted(BatchRequest):
    """A batch of the lines of an uploaded file."""

    webhook: BatchWebhook | None = Field(None, description="Where the batch's end is told.")


class PlainOptions(Strict):
    """What may be said of a batch beside its inputs."""

    completion_window: Window = "24h"
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = Field(None, description="How long output and error file are kept.")
    webhook: BatchWebhook | None = Field(None, description="Where the batch's end is told.")


class PlainBatchWanted(PlainOptions):
    """A batch that brings its inputs along; all of one kind."""

    inputs: Annotated[list[PlainLine], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        self.check_inputs()
        return self

    def check_inputs(self) -> None:
        """Raise a ValueError when the inputs do not belong together."""
        first = self.inputs[0].kind
        for index, line in enumerate(self.inputs):
            if line.kind is not first:
                message = f"inputs[0] makes {first} and inputs[{index}] {line.kind}; make a batch for each kind"
                raise ValueError(message)
        twice = next((name for name, count in Counter(self.custom_ids()).items() if count > 1), None)
        if twice is not None:
            message = f"two of the 'inputs' have the custom_id '{twice}'; give each its own"
            raise ValueError(message)

    def custom_ids(self) -> list[str]:
        """Return what each input is called; those without a name are numbered from 0."""
        return [line.custom_id or f"input-{index}" for index, line in enumerate(self.inputs)]


class BatchQuery(BaseModel):
    """What a list may be asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(20, ge=1, le=LIST_LIMIT, description="How many batches at most.")
    after: str = Field("", max_length=100, description="The `last_id` of the page before.")
    caller: str = Field("", max_length=200, description="Another caller's batches; for admins.")


class BatchFlaws(Strict):
    """Why a file cannot be a batch: the first hundred reasons."""

    object: Literal["list"]
    data: list[Flaw]


class RequestCounts(Strict):
    """How many lines there are, and how many have ended in which way."""

    total: int = Field(description="0 until the file is validated.")
    completed: int
    failed: int


class BatchUsage(Strict):
    """What all lines that have ended took."""

    input_tokens: int
    input_tokens_details: JsonObject
    output_tokens: int
    output_tokens_details: JsonObject
    total_tokens: int


class BatchAnswer(Strict):
    """A batch; times are epoch seconds."""

    id: str
    object: Literal["batch"]
    endpoint: Endpoint
    input_file_id: str
    completion_window: str
    status: BatchStatus
    paused: bool = Field(description="No more lines begin until it is resumed.")
    output_file_id: str | None
    error_file_id: str | None
    errors: BatchFlaws | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class PlainBatchAnswer(BatchAnswer):
    """A batch that brought its inputs along."""

    total: int
    completed: int
    failed: int


class BatchList(Strict):
    """Some batches, newest first."""

    object: Literal["list"]
    data: list[BatchAnswer]
    has_more: bool
    first_id: str | None
    last_id: str | None = Field(description="Send it as `after` to get the next page.")


BODIES = (BatchWanted, PlainBatchWanted)
"""What POST /v1/batches takes."""
