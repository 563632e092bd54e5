"""`stoker webhooks`: endpoints, the log of deliveries, replay, and a receiver for development."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from stoker.commands.context import Context
from stoker.commands.listen import listen
from stoker.commands.words import one_line

ENDPOINTS = "/v1/webhooks/endpoints"
DELIVERIES = "/v1/webhooks/deliveries"
ENDPOINT_HEADERS = ("ENDPOINT", "STATE", "EVENTS", "URL")
DELIVERY_HEADERS = ("DELIVERY", "EVENT", "STATUS", "TRIES", "HAPPENED", "LAST ERROR")


def webhooks(context: Context) -> int:
    """Run one of the commands about webhooks; without one, list the endpoints."""
    return ACTIONS[context.typed.action](context)


def _list(context: Context) -> int:
    found = context.client.call("GET", ENDPOINTS)["data"]
    if context.wants_json:
        context.screen.json(found)
        return 0
    rows = [(one["id"], _state(one), " ".join(one["events"]), one_line(one["url"])) for one in found]
    context.screen.table(
        ENDPOINT_HEADERS, rows, "You have no webhook endpoints; `stoker webhooks create URL` makes one."
    )
    return 0


def _state(endpoint: dict[str, Any]) -> str:
    if not endpoint["enabled"]:
        return "disabled"
    return "failing" if endpoint["failing_since"] else "enabled"


def _create(context: Context) -> int:
    typed = context.typed
    wanted = {"url": typed.url, "events": typed.event, "description": typed.description}
    body = {name: value for name, value in wanted.items() if value}
    return _show_secret(context, context.client.call("POST", ENDPOINTS, body))


def _rotate(context: Context) -> int:
    return _show_secret(context, context.client.call("POST", f"{_at(context)}/rotate"))


def _show_secret(context: Context, made: dict[str, Any]) -> int:
    if context.wants_json:
        context.screen.json(made)
        return 0
    context.screen.say(made["secret"])
    context.screen.note(f"This is the secret of {made['id']}. It is shown this once: store it now.")
    return 0


def _enable(context: Context) -> int:
    return _say(context, context.client.call("PATCH", _at(context), {"enabled": True}), "is enabled")


def _disable(context: Context) -> int:
    return _say(context, context.client.call("PATCH", _at(context), {"enabled": False}), "is disabled")


def _delete(context: Context) -> int:
    context.client.call("DELETE", _at(context))
    return _say(context, {"id": context.typed.endpoint, "deleted": True}, "is deleted")


def _test(context: Context) -> int:
    return _say(context, context.client.call("POST", f"{_at(context)}/test"), "is on its way")


def _replay(context: Context) -> int:
    typed = context.typed
    if typed.since is None:
        path = f"{DELIVERIES}/{quote(typed.what, safe='')}/replay"
        return _say(context, context.client.call("POST", path), "is sent again")
    path = f"{ENDPOINTS}/{quote(typed.what, safe='')}/replay"
    again = context.client.call("POST", path, params={"since": typed.since})
    return _say(context, {"id": again["endpoint"], **again}, f"gets {again['replayed']} deliveries again")


def _deliveries(context: Context) -> int:
    typed = context.typed
    asked = {"job": typed.job, "endpoint": typed.endpoint, "event": typed.event, "status": typed.status}
    asked |= {"occurred_after": typed.since, "limit": str(typed.limit)}
    asked |= {"occurred_before": typed.until}
    params = {name: value for name, value in asked.items() if value}
    found = context.client.call("GET", DELIVERIES, params=params)["data"]
    if context.wants_json:
        context.screen.json(found)
        return 0
    rows = [
        (one["id"], one["event"], one["status"], str(one["attempts"]), one["occurred_at"], _error(one))
        for one in found
    ]
    context.screen.table(DELIVERY_HEADERS, rows, "There are no such deliveries.")
    return 0


def _delivery(context: Context) -> int:
    found = context.client.call("GET", f"{DELIVERIES}/{quote(context.typed.delivery, safe='')}")
    if context.wants_json:
        context.screen.json(found)
        return 0
    context.screen.say(f"{found['id']}  {found['event']}  {found['status']}")
    rows = [
        (str(one["number"]), one["at"], str(one["status"] or "-"), f"{one['latency_ms']:.0f} ms", one["error"] or "")
        for one in found["log"]
    ]
    context.screen.table(("TRY", "AT", "ANSWER", "TOOK", "ERROR"), rows, "Nothing was tried yet.")
    return 0


def _secret(context: Context) -> int:
    path = "/v1/webhooks/secret"
    found = context.client.call("POST", f"{path}/rotate") if context.typed.rotate else context.client.call("GET", path)
    if context.wants_json:
        context.screen.json(found)
    else:
        context.screen.say(found["secret"])
    return 0


def _at(context: Context) -> str:
    return f"{ENDPOINTS}/{quote(context.typed.endpoint, safe='')}"


def _say(context: Context, told: dict[str, Any], words: str) -> int:
    if context.wants_json:
        context.screen.json(told)
    else:
        context.screen.say(f"{told['id']} {words}.")
    return 0


def _error(delivery: dict[str, Any]) -> str:
    return one_line(delivery["last_error"] or "")


ACTIONS: dict[str | None, Callable[[Context], int]] = {
    None: _list,
    "create": _create,
    "enable": _enable,
    "disable": _disable,
    "delete": _delete,
    "rotate": _rotate,
    "test": _test,
    "replay": _replay,
    "deliveries": _deliveries,
    "delivery": _delivery,
    "secret": _secret,
    "listen": listen,
}
