"""Our signatures are those that S3's own library makes."""

import hashlib
import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from botocore import auth
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from storage.objects.signature import Signer

ACCESS, SECRET, REGION = "AKIAEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCY", "eu-west-1"
NOW = datetime(2026, 11, 21, 23, 59, 58, tzinfo=UTC)
ENDPOINTS = [
    "http://127.0.0.1:9000",
    "http://127.0.0.1:80",
    "https://s3.eu-west-1.amazonaws.com",
    "https://s3.example.com:443/",
    "https://s3.example.com:8443/under/a/path",
]
KEYS = ["jobs/job_1/1-ab/result.json", "a b/그림 (1).png", "~a/_b.c-d/e+f=g&h?i#j%20", "x" * 200]


@pytest.fixture(autouse=True)
def still_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours and the library's show the same second."""
    monkeypatch.setattr(time, "time", NOW.timestamp)
    monkeypatch.setattr(auth, "get_current_datetime", lambda: NOW)


def signer(endpoint: str) -> Signer:
    return Signer(endpoint, ACCESS, SECRET, REGION)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("key", KEYS)
def test_a_put_is_signed_as_the_library_signs_it(endpoint: str, key: str) -> None:
    sha256 = hashlib.sha256(b"content").hexdigest()
    address, headers = signer(endpoint).sign("PUT", "stoker", key, {"content-type": "image/png"}, sha256)
    request = AWSRequest("PUT", address, {"Content-Type": "image/png", "X-Amz-Content-SHA256": sha256}, b"content")
    S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", REGION).add_auth(request)
    assert headers["x-amz-date"] == request.headers["X-Amz-Date"]
    assert headers["authorization"] == request.headers["Authorization"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("key", KEYS)
def test_an_address_is_signed_as_the_library_signs_it(endpoint: str, key: str) -> None:
    query = {
        "response-content-type": "image/png",
        "response-content-disposition": "attachment; filename*=UTF-8''a%20b",
    }
    address = signer(endpoint).presign("GET", "stoker", key, expires_seconds=60, query=query)
    plain, _, _ = address.partition("?")
    request = AWSRequest("GET", plain, params=query)
    S3SigV4QueryAuth(Credentials(ACCESS, SECRET), "s3", REGION, expires=60).add_auth(request)
    assert parts(address) == parts(request.url)


def test_an_upload_address_binds_its_headers() -> None:
    headers = {"content-length": "3", "content-type": "image/png"}
    address = signer(ENDPOINTS[0]).presign("PUT", "stoker", "up/1", expires_seconds=60, headers=headers)
    request = AWSRequest("PUT", address.partition("?")[0], headers)
    S3SigV4QueryAuth(Credentials(ACCESS, SECRET), "s3", REGION, expires=60).add_auth(request)
    assert parts(address) == parts(request.url)


def test_a_new_day_has_a_new_key(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = signer(ENDPOINTS[0])
    _, before = ours.sign("PUT", "stoker", "a", {}, "0")
    monkeypatch.setattr(time, "time", lambda: NOW.timestamp() + 3)
    address, after = ours.sign("PUT", "stoker", "a", {}, "0")
    assert "/20261121/" in before["authorization"]
    assert "/20261122/" in after["authorization"]
    assert signer(ENDPOINTS[0]).sign("PUT", "stoker", "a", {}, "0") == (address, after)


def parts(address: str | None) -> tuple[str, str, set[str]]:
    """An address, its query in no order."""
    split = urlsplit(address or "")
    return split.netloc, split.path, set(split.query.split("&"))
