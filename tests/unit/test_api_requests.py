"""What the API reads of a request by itself: its headers, laid out once, and its whole body."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from producer_api.body import read_body
from producer_api.headers import header_of


def test_the_first_of_several_headers_counts() -> None:
    scope = {"headers": [(b"prefer", b"wait=1"), (b"x-request-id", b"caf\xe9"), (b"prefer", b"wait=2")]}
    assert header_of(scope, b"prefer") == "wait=1"
    assert header_of(scope, b"x-request-id") == "caf\xe9"
    assert header_of(scope, b"idempotency-key") is None


def request_of(*messages: Message) -> Request:
    waiting = iter(messages)
    return Request({"type": "http", "headers": []}, lambda: asyncio.sleep(0, next(waiting)))


async def test_a_body_is_read_to_its_end() -> None:
    first = {"type": "http.request", "body": b"one, ", "more_body": True}
    assert await read_body(request_of(first, {"type": "http.request", "body": b"two"})) == b"one, two"
    assert await read_body(request_of({"type": "http.request"})) == b""


async def test_half_a_body_is_none() -> None:
    first = {"type": "http.request", "body": b"one, ", "more_body": True}
    with pytest.raises(ClientDisconnect):
        await read_body(request_of(first, {"type": "http.disconnect"}))
