"""How both clients are set up: the address, the key, and what they ask of httpx."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from stoker.client.address import Address, find_address, make_address
from stoker.client.errors import StokerError
from stoker.client.exchange import Call
from stoker.settings import client_environment

CONNECT_SECONDS = 5.0
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def choose_address(url: str | None, api_key: str | None) -> Address:
    """Return what was given; what was not comes from the environment or the nearest client.env."""
    if url and api_key:
        return make_address(url, api_key)
    given = {"STOKER_URL": url, "STOKER_API_KEY": api_key}
    environment = {**client_environment(), **{name: value for name, value in given.items() if value}}
    return find_address(environment, Path.cwd())


def http_options(url: str) -> dict[str, Any]:
    """Return the options of httpx's clients; proxies are for what is not on this machine."""
    beyond = httpx.URL(url).host not in LOOPBACK
    return {"trust_env": beyond, "verify": _trust(), "headers": {"User-Agent": "stoker-client"}}


@functools.cache
def _trust() -> ssl.SSLContext:
    """Return whom we trust; reading all the certificates takes longer than most calls, so it is done once."""
    return httpx.create_ssl_context()


@contextmanager
def form_of(call: Call) -> Iterator[dict[str, Any]]:
    """Return what a call sends beside its head: JSON, or a form with a file that is read while it is sent."""
    if call.file is None:
        yield {"json": call.body}
        return
    try:
        content = call.file.open("rb")
    except OSError as error:
        raise StokerError(f"{call.file} cannot be read: {error.strerror}.") from None
    with content:
        yield {"data": dict(call.body or {}), "files": {"file": (call.file.name, content)}}


def request_of(
    http: httpx.Client | httpx.AsyncClient, call: Call, api_key: str, form: Mapping[str, Any] | None = None
) -> httpx.Request:
    """Return a call as httpx sends it."""
    key = {"Authorization": f"Bearer {api_key}"} if call.wants_key else {}
    timeout = httpx.Timeout(call.read_seconds, connect=CONNECT_SECONDS)
    return http.build_request(
        call.method,
        call.url,
        **({"json": call.body} if form is None else form),
        params=dict(call.params) or None,
        headers={**call.headers, **key},
        timeout=timeout,
    )
