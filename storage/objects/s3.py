"""Objects in S3, or in anything that speaks its language.

What each job needs, a put and addresses to hand out, we sign and send ourselves; boto3 does all the rest.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import boto3
from botocore.config import Config

from schemas.errors import NotFoundError, ObjectStoreFaultError
from storage.objects.connections import open_line, open_pool
from storage.objects.faults import faults
from storage.objects.line import CONNECT_SECONDS, READ_SECONDS, HttpLine
from storage.objects.multipart import S3Reader, S3Upload, abort_uploads
from storage.objects.port import StoredObject, check_key, check_prefix, disposition
from storage.objects.signature import Signer
from storage.settings import StorageSettings

PAGE_OBJECTS = 1000  # S3's own limit for a listing and for one deletion
AWS_DEFAULT_REGION = "us-east-1"
OK = 200
LARGE_BYTES = 256 * 1024
"""What is larger goes through a thread: to hash and send it would hold an event loop up."""
SAID_BYTES = 500

_CONFIG = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    # Stores that are not AWS refuse or ignore the newer checksums; the signature covers the bytes anyway.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    connect_timeout=CONNECT_SECONDS,
    read_timeout=READ_SECONDS,
    retries={"mode": "standard", "total_max_attempts": 2},
)
_PROBE_CONFIG = _CONFIG.merge(Config(read_timeout=2, retries={"mode": "standard", "total_max_attempts": 1}))


class S3ObjectStore:
    """One bucket. Making this is slow and touches no network; make one per process, its threads share it."""

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str,
        access_key: str,
        secret_key: str,
        public_endpoint: str | None = None,
        region: str = AWS_DEFAULT_REGION,
        max_connections: int = 64,
    ) -> None:
        self._bucket = bucket
        self._region = region
        # More clients of one session cost next to nothing.
        session = boto3.session.Session(access_key, secret_key, region_name=region)
        config = _CONFIG.merge(Config(max_pool_connections=max_connections))
        self._client: Any = session.client("s3", endpoint_url=endpoint, config=config)
        self._probe: Any = session.client("s3", endpoint_url=endpoint, config=_PROBE_CONFIG)
        self._endpoint = endpoint
        self._max_connections = max_connections
        self._pool = open_pool(endpoint, max_connections)
        self._line: tuple[asyncio.AbstractEventLoop, HttpLine | None] | None = None
        self._signer = Signer(endpoint, access_key, secret_key, region)
        self._public = Signer(public_endpoint or endpoint, access_key, secret_key, region)

    def put(self, key: str, content: bytes, content_type: str) -> str:
        """Store an object; return the content's hash."""
        sha256, address, headers = self._sign_put(key, content, content_type)
        with faults():
            answer = self._pool.urlopen("PUT", address, redirect=False, body=content, headers=headers)
        _check_put(answer.status, answer.data)
        return sha256

    async def aput(self, key: str, content: bytes, content_type: str) -> str:
        """Store an object; small ones go over a line of the event loop's own."""
        line = self._own_line()
        if line is None or len(content) > LARGE_BYTES:
            return await asyncio.to_thread(self.put, key, content, content_type)
        sha256, address, headers = self._sign_put(key, content, content_type)
        with faults():
            answer = await line.put(address, headers, content)
        _check_put(answer.status, answer.said)
        return sha256

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        with faults():
            content: bytes = self._client.get_object(Bucket=self._bucket, Key=check_key(key))["Body"].read()
        return content

    def open_read(self, key: str) -> S3Reader:
        """Begin to read an object."""
        with faults():
            return S3Reader(self._client.get_object(Bucket=self._bucket, Key=check_key(key))["Body"])

    def open_upload(self, key: str, content_type: str) -> S3Upload:
        """Begin a multipart upload."""
        return S3Upload(self._client, self._bucket, check_key(key), content_type)

    def abort_uploads(self, prefix: str, begun_before: float) -> int:
        """Forget old multipart uploads."""
        return abort_uploads(self._client, self._bucket, prefix, begun_before)

    def head(self, key: str) -> int | None:
        """Return an object's size in bytes."""
        try:
            with faults():
                size: int = self._client.head_object(Bucket=self._bucket, Key=check_key(key))["ContentLength"]
        except NotFoundError:
            return None
        return size

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, as many in one request as S3 allows."""
        for start in range(0, len(keys), PAGE_OBJECTS):
            names = [{"Key": check_key(key)} for key in keys[start : start + PAGE_OBJECTS]]
            with faults():
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": names, "Quiet": True})
            if errors := answer.get("Errors"):
                raise ObjectStoreFaultError from RuntimeError(f"{len(errors)} not deleted, the first: {errors[0]}")

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object whose key begins so."""
        check_prefix(prefix)
        while found := self.list(prefix, None, PAGE_OBJECTS):
            self.delete([entry.key for entry in found])

    def list(self, prefix: str, after: str | None, limit: int) -> Sequence[StoredObject]:
        """Return the next objects in the order of their keys."""
        found: list[StoredObject] = []
        more = True
        while more and len(found) < limit:
            start = found[-1].key if found else after or ""
            with faults():
                page = self._client.list_objects_v2(
                    Bucket=self._bucket, Prefix=prefix, StartAfter=start, MaxKeys=min(limit - len(found), PAGE_OBJECTS)
                )
            lines = page.get("Contents", ())
            found.extend(StoredObject(line["Key"], line["LastModified"], line["Size"]) for line in lines)
            more = bool(lines) and page["IsTruncated"]
        return found

    def presign_get(self, key: str, *, expires_seconds: int, content_type: str, filename: str | None = None) -> str:
        """Return a signed address at the public endpoint."""
        query = {"response-content-type": content_type}
        if filename is not None:
            query["response-content-disposition"] = disposition(filename, content_type)
        return self._public.presign("GET", self._bucket, check_key(key), expires_seconds=expires_seconds, query=query)

    def presign_put(self, key: str, *, content_length: int, content_type: str, expires_seconds: int) -> str:
        """Return a signed address at the public endpoint; the signature covers length and type."""
        headers = {"content-length": str(content_length), "content-type": content_type}
        return self._public.presign(
            "PUT", self._bucket, check_key(key), expires_seconds=expires_seconds, headers=headers
        )

    def check(self) -> None:
        """Ask for the bucket, once and briefly."""
        if not self._has_bucket():
            raise ObjectStoreFaultError from LookupError(f"There is no bucket {self._bucket!r}; create it.")

    def ensure_bucket(self) -> None:
        """Create the bucket if it does not exist."""
        if self._has_bucket():
            return
        elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": self._region}}
        try:
            with faults():
                options = {} if self._region == AWS_DEFAULT_REGION else elsewhere
                self._client.create_bucket(Bucket=self._bucket, **options)
        except ObjectStoreFaultError:
            if not self._has_bucket():  # else another process was faster
                raise

    def close(self) -> None:
        """Let go of threads' connections."""
        for client in (self._client, self._probe):
            client.close()
        self._pool.clear()

    async def aclose(self) -> None:
        """Let go of the running loop's connections."""
        if (line := self._own_line()) is not None:
            await line.aclose()

    def _sign_put(self, key: str, content: bytes, content_type: str) -> tuple[str, str, dict[str, str]]:
        sha256 = hashlib.sha256(content).hexdigest()
        headers = {"content-type": content_type}
        return sha256, *self._signer.sign("PUT", self._bucket, check_key(key), headers, sha256)

    def _own_line(self) -> HttpLine | None:
        """Return the running loop's line: connections cannot be taken from one loop to the next."""
        loop = asyncio.get_running_loop()
        if self._line is None or self._line[0] is not loop:
            self._line = loop, open_line(self._endpoint, self._max_connections)
        return self._line[1]

    def _has_bucket(self) -> bool:
        try:
            with faults():
                self._probe.head_bucket(Bucket=self._bucket)
        except NotFoundError:
            return False
        return True


def _check_put(status: int, said: bytes) -> None:
    if status != OK:
        raise ObjectStoreFaultError from RuntimeError(f"A put was answered with {status}: {said[:SAID_BYTES]!r}")


def open_bucket(settings: StorageSettings, bucket: str | None = None) -> S3ObjectStore:
    """Open the bucket of the settings, or another one in the same store."""
    return S3ObjectStore(
        bucket or settings.s3_bucket,
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        public_endpoint=settings.s3_public_endpoint,
        region=settings.s3_region,
    )
