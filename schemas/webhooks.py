"""Webhooks: which events there are, and how a job or a batch asks for them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from schemas.base import Strict


class WebhookEvent(StrEnum):
    """What may be told of a job."""

    STARTED = "job.started"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELED = "job.canceled"
    EXPIRED = "job.expired"


class BatchEvent(StrEnum):
    """What may be told of a batch: how it ended. Its lines tell nothing."""

    COMPLETED = "batch.completed"
    FAILED = "batch.failed"
    CANCELLED = "batch.cancelled"
    EXPIRED = "batch.expired"


ENDS: list[WebhookEvent] = [event for event in WebhookEvent if event is not WebhookEvent.STARTED]
BATCH_EVENTS: list[BatchEvent] = list(BatchEvent)
ALL_ENDS: list[WebhookEvent | BatchEvent] = [*ENDS, *BATCH_EVENTS]

Url = Annotated[
    str,
    Field(min_length=1, max_length=2048, description="An https:// address on the public internet.",
          examples=["https://example.com/hooks/stoker"]),
]  # fmt: skip
EVERY_END = "Every end when unset."
Events = Annotated[list[WebhookEvent | BatchEvent], Field(min_length=1, max_length=9, description=EVERY_END)]


class JobWebhook(Strict):
    """Where one job's events go; they are signed with its caller's secret."""

    url: Url
    events: Annotated[list[WebhookEvent], Field(min_length=1, max_length=5, description=EVERY_END)] = ENDS


class BatchWebhook(Strict):
    """Where one batch's events go; they are signed with its caller's secret."""

    url: Url
    events: Annotated[list[BatchEvent], Field(min_length=1, max_length=4, description=EVERY_END)] = BATCH_EVENTS


class DeliveryStatus(StrEnum):
    """Where a delivery is in its life."""

    PENDING = "pending"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"
