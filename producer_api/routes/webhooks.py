"""Webhook endpoints and secrets: where a caller's events go and what signs them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from starlette.requests import Request
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.body import read_as
from producer_api.openapi import answers, body, errors
from producer_api.state import ApiHere, Reader, Submitter, base_of
from producer_api.webhooks import (
    DeliveryAnswer,
    EndpointAnswer,
    EndpointChanges,
    EndpointList,
    EndpointRequest,
    NewEndpointAnswer,
    ReplayAnswer,
    SecretAnswer,
    delivery_view,
    endpoint_view,
    secret_view,
)
from schemas.errors import ConflictError, NotFoundError, TooManyError, UrlRefusedError
from schemas.ids import new_id
from storage.webhooks import deliveries, endpoints, secrets
from storage.webhooks.endpoints import NewEndpoint
from tasks.webhooks.intake import check_url, row_of_links, words

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

EXAMPLE = {"url": "https://example.com/hooks/stoker", "events": ["job.succeeded", "job.failed"]}
WANTED = {"requestBody": body("EndpointRequest", {"ends": {"value": EXAMPLE}})}
CHANGES = {"requestBody": body("EndpointChanges", {"again": {"value": {"enabled": True}}})}


@router.post(
    "/endpoints",
    status_code=201,
    responses=answers(201, NewEndpointAnswer, UrlRefusedError, TooManyError),
    openapi_extra=WANTED,
)
async def create_endpoint(request: Request, api: ApiHere, key: Submitter) -> Response:
    """Register an endpoint for the events of all your jobs. Its secret is in this answer and never again."""
    wanted = await read_as(EndpointRequest, request)
    target = check_url(api.webhooks.rules, wanted.url, "url")
    links, events = row_of_links(base_of(request)), words(wanted.events)
    new = NewEndpoint(new_id("ep"), key.caller_id, wanted.url, target.origin, events, wanted.description, links)
    limit = api.services.task_settings.max_endpoints_per_caller
    made = await api.services.database.atransact(lambda connection: endpoints.create(connection, new, limit))
    if made is None:
        raise TooManyError(f"You have {limit} endpoints and may have no more; delete one that you no longer need.")
    return json_answer(endpoint_view(made) | {"secret": made.secret}, 201)


@router.get("/endpoints", responses=answers(200, EndpointList))
async def list_endpoints(api: ApiHere, key: Reader, caller: str | None = None) -> Response:
    """List your endpoints, newest first; an admin may name another caller."""
    caller_id = await api.keys.caller_of(key, caller)
    found = await api.services.database.aread(lambda connection: endpoints.of_caller(connection, caller_id))
    return json_answer({"object": "list", "data": [endpoint_view(one) for one in found]})


@router.get("/endpoints/{endpoint_id}", responses=answers(200, EndpointAnswer, NotFoundError))
async def get_endpoint(api: ApiHere, key: Reader, endpoint_id: str) -> Response:
    """Look at an endpoint."""
    return json_answer(endpoint_view(await api.webhooks.find(endpoint_id, key.caller_id)))


@router.patch(
    "/endpoints/{endpoint_id}",
    responses=answers(200, EndpointAnswer, NotFoundError, UrlRefusedError),
    openapi_extra=CHANGES,
)
async def change_endpoint(request: Request, api: ApiHere, key: Submitter, endpoint_id: str) -> Response:
    """Change an endpoint. What waits for it goes to its new address; disabling it gives up what waits."""
    wanted = await read_as(EndpointChanges, request)
    endpoint = await api.webhooks.find(endpoint_id, key.caller_id)
    changes: dict[str, object] = wanted.model_dump(exclude_none=True, exclude={"events", "enabled"})
    if wanted.url is not None:
        changes["origin"] = check_url(api.webhooks.rules, wanted.url, "url").origin
    if wanted.events is not None:
        changes["events"] = words(wanted.events)
    if wanted.enabled is not None:
        changes["enabled"] = int(wanted.enabled)
    changed = await api.services.database.atransact(lambda connection: endpoints.change(connection, endpoint, changes))
    return json_answer(endpoint_view(changed))


@router.delete("/endpoints/{endpoint_id}", status_code=204, responses=errors(NotFoundError))
async def delete_endpoint(api: ApiHere, key: Submitter, endpoint_id: str) -> Response:
    """Delete an endpoint; what waits for it is given up."""
    endpoint = await api.webhooks.find(endpoint_id, key.caller_id)
    await api.services.database.atransact(lambda connection: endpoints.delete(connection, endpoint.id))
    return Response(status_code=204)


@router.post("/endpoints/{endpoint_id}/rotate", responses=answers(200, NewEndpointAnswer, NotFoundError))
async def rotate_endpoint(api: ApiHere, key: Submitter, endpoint_id: str) -> Response:
    """Give an endpoint a new secret, shown this once. For a day the old one signs beside it."""
    endpoint = await api.webhooks.find(endpoint_id, key.caller_id)
    overlap_seconds = api.services.task_settings.webhook_overlap_seconds
    rotated = await api.services.database.atransact(
        lambda connection: endpoints.rotate(connection, endpoint.id, overlap_seconds)
    )
    return json_answer(endpoint_view(rotated) | {"secret": rotated.secret})


@router.post(
    "/endpoints/{endpoint_id}/test",
    status_code=202,
    responses=answers(202, DeliveryAnswer, NotFoundError, ConflictError),
)
async def test_endpoint(api: ApiHere, key: Submitter, endpoint_id: str) -> Response:
    """Send an endpoint the event `webhook.test`."""
    endpoint = await api.webhooks.find(endpoint_id, key.caller_id)
    if not endpoint.enabled:
        raise ConflictError('The endpoint is disabled; enable it first: PATCH it with {"enabled": true}.')
    delivery_id = new_id("msg")
    await api.services.database.atransact(lambda connection: deliveries.add_test(connection, delivery_id, endpoint))
    api.webhooks.announce()
    found = await api.services.database.aread(
        lambda connection: deliveries.find(connection, delivery_id, key.caller_id)
    )
    if found is None:
        raise NotFoundError
    return json_answer(delivery_view(found[0]), 202)


@router.post(
    "/endpoints/{endpoint_id}/replay",
    status_code=202,
    responses=answers(202, ReplayAnswer, NotFoundError),
)
async def replay_endpoint(
    api: ApiHere,
    key: Submitter,
    endpoint_id: str,
    since: Annotated[AwareDatetime, Query(description="What happened from this moment on (RFC 3339).")],
) -> Response:
    """Send an endpoint again what never arrived since a moment, each under its first id."""
    endpoint = await api.webhooks.find(endpoint_id, key.caller_id)
    replayed = await api.services.database.atransact(
        lambda connection: deliveries.replay_since(connection, endpoint.id, since.timestamp())
    )
    api.webhooks.announce()
    return json_answer({"object": "webhook.replay", "endpoint": endpoint.id, "replayed": replayed}, 202)


@router.get("/secret", responses=answers(200, SecretAnswer))
async def get_secret(api: ApiHere, key: Submitter) -> Response:
    """Show the secret that signs the deliveries to URLs that your jobs name."""
    found = await api.services.database.atransact(lambda connection: secrets.of_caller(connection, key.caller_id))
    return json_answer(secret_view(found))


@router.post("/secret/rotate", responses=answers(200, SecretAnswer))
async def rotate_secret(api: ApiHere, key: Submitter) -> Response:
    """Make a new secret. For a day the old one signs beside it."""
    overlap_seconds = api.services.task_settings.webhook_overlap_seconds
    rotated = await api.services.database.atransact(
        lambda connection: secrets.rotate(connection, key.caller_id, overlap_seconds)
    )
    return json_answer(secret_view(rotated))
