"""Connections to an object store, for what we send it ourselves."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies
from urllib3 import PoolManager, ProxyManager, Retry, Timeout

CONNECT_SECONDS, READ_SECONDS = 2.0, 10.0
# Once more, as boto3's own clients do: a kept connection may have died, and a store may have a bad moment.
_RETRY = Retry(1, status_forcelist=[500, 502, 503, 504], raise_on_status=False, respect_retry_after_header=False)


def open_pool(endpoint: str, max_connections: int) -> PoolManager:
    """Return a pool for threads to share; it trusts whom boto3 trusts and takes the same proxy."""
    certificates = get_cert_path(botocore.session.Session().get_config_variable("ca_bundle") or True)
    options: dict[str, Any] = {
        "ca_certs": certificates,
        "maxsize": max_connections,
        "timeout": Timeout(CONNECT_SECONDS, READ_SECONDS),
        "retries": _RETRY,
    }
    proxy = get_environ_proxies(endpoint).get(urlsplit(endpoint).scheme)
    return ProxyManager(proxy, **options) if proxy else PoolManager(**options)
