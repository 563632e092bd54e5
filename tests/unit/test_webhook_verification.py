"""What receivers use to tell our deliveries from others'."""

import base64
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from stoker.webhooks import WebhookVerificationError, verify
from tasks.webhooks.signing import sign

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
BODY = b'{"type":"job.succeeded","data":{"id":"job_1"}}'


def signed(at: float | None = None, body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,)) -> dict[str, str]:
    return sign(secrets, "msg_1", int(time.time() if at is None else at), body)


def test_a_genuine_delivery_is_taken_whatever_the_case_of_its_headers() -> None:
    headers = {name.title(): value for name, value in signed().items()}
    assert verify(BODY, headers, SECRET)["data"] == {"id": "job_1"}
    assert verify(BODY.decode(), headers, SECRET) == verify(BODY, headers, SECRET)


def test_either_secret_is_good_while_they_overlap() -> None:
    headers = signed(secrets=(OTHER, SECRET))
    assert verify(BODY, headers, SECRET) == verify(BODY, headers, OTHER)


def test_what_the_official_library_signs_is_taken() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    signature = Webhook(SECRET).sign("msg_2", now, BODY.decode())
    headers = {
        "webhook-id": "msg_2",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": f"v2,xx {signature}",
    }
    assert verify(BODY, headers, SECRET)["type"] == "job.succeeded"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"body": BODY + b" "}, "No signature matches"),
        ({"secret": OTHER}, "No signature matches"),
        ({"secret": "whsec_"}, "not one of ours"),
        ({"secret": "***"}, "not one of ours"),
        ({"at": -301}, "it is a replay"),
        ({"at": 360}, "it is a replay"),
        ({"changed": {"webhook-id": "msg_2"}}, "No signature matches"),
        ({"changed": {"webhook-timestamp": "soon"}}, "missing or not readable"),
        ({"changed": {"webhook-signature": ""}}, "No signature matches"),
        ({"changed": {"webhook-signature": "v1,\u00e9"}}, "No signature matches"),
        ({"headers": {}}, "missing or not readable"),
        ({"signed_body": b"{", "body": b"{"}, "not JSON"),
    ],
)
def test_everything_else_is_refused_with_a_reason(changes: dict[str, Any], words: str) -> None:
    changes = dict(changes)
    headers = signed(time.time() + changes.pop("at", 0), changes.pop("signed_body", BODY)) | changes.pop("changed", {})
    asked: dict[str, Any] = {"body": BODY, "headers": headers, "secret": SECRET} | changes
    with pytest.raises(WebhookVerificationError, match=words):
        verify(**asked)


def test_the_window_is_the_receivers_choice() -> None:
    assert verify(BODY, signed(time.time() - 500), SECRET, tolerance_seconds=600)
    with pytest.raises(WebhookVerificationError):
        verify(BODY, signed(time.time() - 20), SECRET, tolerance_seconds=10)


@given(st.binary(max_size=200), st.integers(min_value=0, max_value=255))
def test_no_other_body_passes_under_a_signature(body: bytes, flip: int) -> None:
    headers = signed(body=BODY)
    if body != BODY:
        with pytest.raises(WebhookVerificationError):
            verify(body, headers, SECRET)
    changed = bytes([BODY[0] ^ (flip or 1)]) + BODY[1:]
    with pytest.raises(WebhookVerificationError):
        verify(changed, headers, SECRET)
