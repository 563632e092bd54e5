"""The log of webhook deliveries: what was sent, what came of it, and sending it again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.openapi import answers
from producer_api.state import ApiHere, Reader, Submitter
from producer_api.webhooks import DeliveryAnswer, DeliveryLog, DeliveryPage, DeliveryQuery, delivery_view, log_view
from schemas.errors import NotFoundError
from storage.webhooks import deliveries

router = APIRouter(prefix="/v1/webhooks/deliveries", tags=["webhooks"])


@router.get("", responses=answers(200, DeliveryPage))
async def list_deliveries(api: ApiHere, key: Reader, query: Annotated[DeliveryQuery, Query()]) -> Response:
    """List deliveries, newest first."""
    wanted = query.as_filter(await api.keys.caller_of(key, query.caller))
    found = await api.services.database.aread(lambda connection: deliveries.page(connection, wanted))
    data, more = [delivery_view(one) for one in found[: wanted.limit]], len(found) > wanted.limit
    cursor = data[-1]["id"] if more else None
    return json_answer({"object": "list", "data": data, "has_more": more, "next_cursor": cursor})


@router.get("/{delivery_id}", responses=answers(200, DeliveryLog, NotFoundError))
async def get_delivery(api: ApiHere, key: Reader, delivery_id: str) -> Response:
    """Look at a delivery and all of its attempts."""
    found = await api.services.database.aread(
        lambda connection: deliveries.find(connection, delivery_id, key.caller_id)
    )
    if found is None:
        raise _not_found(delivery_id)
    return json_answer(log_view(*found))


@router.post("/{delivery_id}/replay", status_code=202, responses=answers(202, DeliveryAnswer, NotFoundError))
async def replay_delivery(api: ApiHere, key: Submitter, delivery_id: str) -> Response:
    """Send a delivery again, whatever became of it, under the same id and from the start of the schedule."""
    database = api.services.database
    if not await database.atransact(lambda connection: deliveries.replay(connection, delivery_id, key.caller_id)):
        raise _not_found(delivery_id)
    api.webhooks.announce()
    found = await database.aread(lambda connection: deliveries.find(connection, delivery_id, key.caller_id))
    if found is None:
        raise _not_found(delivery_id)
    return json_answer(delivery_view(found[0]), 202)


def _not_found(delivery_id: str) -> NotFoundError:
    return NotFoundError(
        f"There is no delivery '{delivery_id[:100]}' of yours; GET /v1/webhooks/deliveries lists those there are."
    )
