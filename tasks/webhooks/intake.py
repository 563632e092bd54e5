"""What callers ask for, on its way into rows: a URL is judged before anything is stored."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic_core import from_json

from schemas.base import JsonObject
from schemas.errors import UrlRefusedError
from schemas.webhooks import BatchWebhook, JobWebhook
from storage.rows import to_json
from tasks.addresses import Rules, Target


def check_url(rules: Rules, url: str, param: str) -> Target:
    """Return the parts of a caller's URL, or refuse the field that it came in."""
    try:
        return rules.check(url)
    except UrlRefusedError as refused:
        raise UrlRefusedError(refused.message, param=param) from None


def row_of_webhook(wanted: JobWebhook | BatchWebhook, rules: Rules, base: str) -> str | None:
    """Return what a row says of its own webhook; `base` is what the links in its deliveries begin with."""
    origin = check_url(rules, wanted.url, "webhook.url").origin
    return to_json({"base": base, "url": wanted.url, "origin": origin, "events": words(wanted.events)})


def webhook_of_row(text: str | None) -> JsonObject | None:
    """Return what a job asked for, so that its retry can ask for it again."""
    said = from_json(text) if text else {}
    return {"url": said["url"], "events": said["events"].split()} if "url" in said else None


def row_of_links(base: str) -> str:
    """Return what the row of a job without a webhook of its own says when its caller has endpoints."""
    return to_json({"base": base}) or "{}"


def words(events: Iterable[str]) -> str:
    """Return events as rows have them."""
    return " ".join(sorted(set(events)))
