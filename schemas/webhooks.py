"""Webhooks: which events there are, and how a job asks for them."""

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


ENDS: list[WebhookEvent] = [event for event in WebhookEvent if event is not WebhookEvent.STARTED]

Url = Annotated[
    str,
    Field(min_length=1, max_length=2048, description="An https:// address on the public internet.",
          examples=["https://example.com/hooks/stoker"]),
]  # fmt: skip
Events = Annotated[list[WebhookEvent], Field(min_length=1, max_length=5, description="Every end when unset.")]


class JobWebhook(Strict):
    """Where one job's events go; they are signed with its caller's secret."""

    url: Url
    events: Events = ENDS


class DeliveryStatus(StrEnum):
    """Where a delivery is in its life."""

    PENDING = "pending"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"
