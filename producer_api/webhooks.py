"""Webhooks as callers see them: endpoints, secrets and the log of deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from producer_api.listing import seconds_of
from producer_api.services import Services
from schemas.base import JsonObject, Strict
from schemas.errors import NotFoundError
from schemas.webhooks import ALL_ENDS, BatchEvent, DeliveryStatus, Events, Url, WebhookEvent
from storage.hints import AsyncHints
from storage.webhooks import endpoints
from storage.webhooks.deliveries import AttemptRow, Delivery, DeliveryFilter
from storage.webhooks.endpoints import Endpoint
from storage.webhooks.secrets import Secrets
from tasks.addresses import read_rules
from tasks.routing import SEND_TASK, SEND_WIDTH, WEBHOOKS
from tasks.views import moment


class EndpointRequest(Strict):
    """An endpoint that is wanted."""

    url: Url
    events: Events = ALL_ENDS
    description: str = Field("", max_length=500)


class EndpointChanges(Strict):
    """What is to be different; what is not named stays."""

    url: Url | None = None
    events: Events | None = None
    description: str | None = Field(None, max_length=500)
    enabled: bool | None = None


class EndpointAnswer(Strict):
    """An endpoint."""

    id: str
    object: Literal["webhook.endpoint"]
    url: str
    events: list[WebhookEvent | BatchEvent]
    description: str
    enabled: bool
    disabled_reason: str | None = Field(description="Why we disabled it; enabling it again clears this.")
    failing_since: AwareDatetime | None = Field(description="Since when no delivery has arrived.")
    created_at: AwareDatetime


class NewEndpointAnswer(EndpointAnswer):
    """An endpoint with its secret, which is shown this once."""

    secret: str


class EndpointList(Strict):
    """All endpoints of a caller."""

    object: Literal["list"]
    data: list[EndpointAnswer]


class SecretAnswer(Strict):
    """What signs the deliveries to URLs that jobs name."""

    object: Literal["webhook.secret"]
    secret: str
    previous_until: AwareDatetime | None = Field(description="Until then the secret before it signs as well.")


class DeliveryAnswer(Strict):
    """One event for one receiver; its id is the `webhook-id` of every attempt."""

    id: str
    object: Literal["webhook.delivery"]
    event: str
    job: str | None = Field(description="The job, or the batch, whose event this is.")
    endpoint: str | None
    url: str | None = Field(description="Of a job's own webhook; an endpoint's deliveries go to its address of then.")
    status: DeliveryStatus
    attempts: int
    last_status: int | None
    last_error: str | None
    occurred_at: AwareDatetime
    next_attempt_at: AwareDatetime | None
    ended_at: AwareDatetime | None


class AttemptAnswer(Strict):
    """One attempt; what the receiver said is not kept."""

    number: int
    at: AwareDatetime
    status: int | None
    latency_ms: float
    error: str | None


class DeliveryLog(DeliveryAnswer):
    """A delivery with all of its attempts."""

    log: list[AttemptAnswer]


class DeliveryPage(Strict):
    """Some deliveries, newest first."""

    object: Literal["list"]
    data: list[DeliveryAnswer]
    has_more: bool
    next_cursor: str | None = Field(description="Send it as `after` to get the next page.")


class ReplayAnswer(Strict):
    """How many deliveries are sent again."""

    object: Literal["webhook.replay"]
    endpoint: str
    replayed: int


class DeliveryQuery(BaseModel):
    """What the log may be asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(20, ge=1, le=100, description="How many deliveries at most.")
    after: str | None = Field(
        None, max_length=100, pattern="^msg_[0-9a-z_]+$", description="The `next_cursor` of the page before."
    )
    job: str | None = Field(None, max_length=100)
    endpoint: str | None = Field(None, max_length=100)
    event: str | None = Field(None, max_length=100)
    status: DeliveryStatus | None = None
    occurred_after: AwareDatetime | None = Field(None, description="At this moment or later (RFC 3339).")
    occurred_before: AwareDatetime | None = Field(None, description="Before this moment (RFC 3339).")
    caller: str | None = Field(None, max_length=200, description="Another caller's; for admins.")

    def as_filter(self, caller_id: str) -> DeliveryFilter:
        """Return what storage looks for."""
        return DeliveryFilter(
            caller_id=caller_id,
            limit=self.limit,
            after=self.after,
            job_id=self.job,
            endpoint_id=self.endpoint,
            event=self.event,
            status=self.status,
            occurred_after=seconds_of(self.occurred_after),
            occurred_before=seconds_of(self.occurred_before),
        )


class Webhooks:
    """What routes about webhooks share."""

    def __init__(self, services: Services) -> None:
        self.rules = read_rules(services.task_settings)
        self._database = services.database
        self._hints = AsyncHints(services.redis, SEND_TASK)

    def announce(self) -> None:
        """Have the sender look now instead of within a second."""
        self._hints.send(WEBHOOKS, width=SEND_WIDTH)

    async def find(self, endpoint_id: str, caller_id: str) -> Endpoint:
        """Return a caller's endpoint; another's is not found."""
        found = await self._database.aread(lambda connection: endpoints.find(connection, endpoint_id, caller_id))
        if found is None:
            named = f"There is no endpoint '{endpoint_id[:100]}' of yours"
            raise NotFoundError(f"{named}; GET /v1/webhooks/endpoints lists those there are.")
        return found


def endpoint_view(endpoint: Endpoint) -> JsonObject:
    """Return an endpoint without its secret."""
    return {
        "id": endpoint.id,
        "object": "webhook.endpoint",
        "url": endpoint.url,
        "events": endpoint.events.split(),
        "description": endpoint.description,
        "enabled": bool(endpoint.enabled),
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": moment(endpoint.failing_since),
        "created_at": moment(endpoint.created_at),
    }


def secret_view(secrets: Secrets) -> JsonObject:
    """Return a caller's secret."""
    return {
        "object": "webhook.secret",
        "secret": secrets.current,
        "previous_until": moment(secrets.previous_until),
    }


def delivery_view(delivery: Delivery) -> JsonObject:
    """Return a delivery."""
    return {
        "id": delivery.id,
        "object": "webhook.delivery",
        "event": delivery.event,
        "job": delivery.job_id,
        "endpoint": delivery.endpoint_id,
        "url": delivery.url,
        "status": delivery.status,
        "attempts": delivery.attempts,
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
        "occurred_at": moment(delivery.occurred_at),
        "next_attempt_at": moment(delivery.next_at),
        "ended_at": moment(delivery.ended_at),
    }


def log_view(delivery: Delivery, attempts: Sequence[AttemptRow]) -> JsonObject:
    """Return a delivery with all of its attempts."""
    log = [
        {
            "number": one.number,
            "at": moment(one.at),
            "status": one.status,
            "latency_ms": one.latency_ms,
            "error": one.error,
        }
        for one in attempts
    ]
    return delivery_view(delivery) | {"log": log}
