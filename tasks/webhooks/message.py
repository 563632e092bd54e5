"""What a delivery says: the job or the batch as a poll would show it now, small enough for any receiver."""

from __future__ import annotations

from pydantic_core import from_json, to_json

from schemas.base import JsonObject
from storage.batches import BatchRow
from storage.objects.port import ObjectStore
from storage.rows import JobRow
from storage.webhooks.deliveries import Delivery
from tasks.batch_views import batch_view
from tasks.views import artifacts, moment, plain

BODY_BYTES = 20_000
FLAWS_TOLD = 10
DROPPED: tuple[tuple[str, object], ...] = (("input", None), ("output", None), ("metadata", {}), ("artifacts", []))
"""What is left out of a body that is too large, in this order; the job's own address has all of it."""


def render_test(delivery: Delivery) -> bytes:
    """Return the body of an event that means nothing."""
    data = {"object": "webhook.test", "endpoint": delivery.endpoint_id, "message": "This is a test; all is well."}
    return _body(delivery, data, [])


def render_job(delivery: Delivery, row: JobRow, given: str | None, objects: ObjectStore, link_seconds: int) -> bytes:
    """Return the body of a job's event; links in it are as fresh as the attempt."""
    base = from_json(row.webhook)["base"] if row.webhook else ""
    view = plain(row, base) | {"artifacts": artifacts(row, objects, link_seconds)}
    if given:
        view["input"] = from_json(given)
    omitted: list[str] = []
    body = _body(delivery, view, omitted)
    for name, nothing in DROPPED:
        if len(body) <= BODY_BYTES:
            break
        if view.get(name):
            view[name] = nothing
            omitted.append(name)
            body = _body(delivery, view, omitted)
    return body


def render_batch(delivery: Delivery, row: BatchRow) -> bytes:
    """Return the body of a batch's event."""
    view = batch_view(row)
    body = _body(delivery, view, [])
    if len(body) > BODY_BYTES and row.errors:
        view["errors"]["data"] = view["errors"]["data"][:FLAWS_TOLD]
        body = _body(delivery, view, ["errors"])
    if len(body) > BODY_BYTES:
        view["metadata"] = {}
        body = _body(delivery, view, ["errors", "metadata"] if row.errors else ["metadata"])
    return body


def _body(delivery: Delivery, data: JsonObject, omitted: list[str]) -> bytes:
    said: JsonObject = {"type": delivery.event, "timestamp": moment(delivery.occurred_at), "data": data}
    return to_json(said | {"omitted": omitted} if omitted else said, inf_nan_mode="null")
