"""For those who receive webhooks: is this really from Stoker, and fresh? Standard library only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

TOLERANCE_SECONDS = 300
"""How old, or how far in the future, a delivery may be: an older one may be a replay of a recorded one."""
PREFIX = "whsec_"


class WebhookVerificationError(Exception):
    """The request is not to be believed; answer it with 400 and do nothing else."""


def verify(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> Any:
    """Return the event in a request's body, as it came over the wire, if its signature is right and fresh.

    The same event may come twice: keep each `webhook-id` header for some days, and drop what you have seen.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        webhook_id, said_at, signatures = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        moment = int(said_at)
    except (KeyError, ValueError):
        raise WebhookVerificationError(
            "The headers webhook-id, webhook-timestamp and webhook-signature are missing or not readable."
        ) from None
    if abs(time.time() - moment) > tolerance_seconds:
        raise WebhookVerificationError(
            f"The timestamp is more than {tolerance_seconds:g} seconds off: it is a replay, or a clock is wrong."
        )
    content = body.encode() if isinstance(body, str) else body
    expected = _signature(secret, f"{webhook_id}.{said_at}.".encode() + content)
    if not any(_is_same(one, expected) for one in signatures.split()):
        raise WebhookVerificationError("No signature matches: another secret signed it, or the body was changed.")
    try:
        return json.loads(content)
    except ValueError:
        raise WebhookVerificationError("The body is not JSON.") from None


def _is_same(given: str, expected: bytes) -> bool:
    version, _, signature = given.partition(",")
    return version == "v1" and hmac.compare_digest(signature.encode(), expected)


def _signature(secret: str, content: bytes) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise WebhookVerificationError("The secret is not one of ours; it looks like whsec_… .")
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256))
