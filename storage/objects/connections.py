"""Connections to an object store, for what we send it ourselves."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies
from urllib3 import PoolManager, ProxyManager, Retry, Timeout

from storage.objects.line import CONNECT_SECONDS, READ_SECONDS, UNWELL, HttpLine

# Once more, as boto3's own clients do: a kept connection may have died, and a store may have a bad moment.
_RETRY = Retry(1, status_forcelist=list(UNWELL), raise_on_status=False, respect_retry_after_header=False)


def open_pool(endpoint: str, max_connections: int) -> PoolManager:
    """Return a pool for threads to share; it trusts whom boto3 trusts and takes the same proxy."""
    options: dict[str, Any] = {
        "ca_certs": _certificates(),
        "maxsize": max_connections,
        "timeout": Timeout(CONNECT_SECONDS, READ_SECONDS),
        "retries": _RETRY,
    }
    proxy = _proxy(endpoint)
    return ProxyManager(proxy, **options) if proxy else PoolManager(**options)


def open_line(endpoint: str, max_connections: int) -> HttpLine | None:
    """Return a line for the running event loop; None where a proxy stands in between, which only threads can pass."""
    return None if _proxy(endpoint) else HttpLine(endpoint, _certificates(), max_connections)


def _certificates() -> str | None:
    path: str | None = get_cert_path(botocore.session.Session().get_config_variable("ca_bundle") or True)
    return path


def _proxy(endpoint: str) -> str | None:
    proxy: str | None = get_environ_proxies(endpoint).get(urlsplit(endpoint).scheme)
    return proxy
