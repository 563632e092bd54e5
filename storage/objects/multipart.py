"""Large objects in S3: uploads in parts that nobody sees before the last one, and downloads piece by piece."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from storage.objects.faults import faults


class S3Upload:
    """An S3 multipart upload."""

    def __init__(self, client: Any, bucket: str, key: str, content_type: str) -> None:
        self._client = client
        self._which = {"Bucket": bucket, "Key": key}
        with faults():
            made = client.create_multipart_upload(**self._which, ContentType=content_type)
        self._which["UploadId"] = made["UploadId"]
        self._parts: list[dict[str, object]] = []

    def add(self, part: bytes | bytearray) -> None:
        """Send the next part."""
        number = len(self._parts) + 1
        with faults():
            answer = self._client.upload_part(**self._which, PartNumber=number, Body=part)
        self._parts.append({"ETag": answer["ETag"], "PartNumber": number})

    def finish(self) -> None:
        """Make one object of the parts."""
        with faults():
            self._client.complete_multipart_upload(**self._which, MultipartUpload={"Parts": self._parts})

    def abort(self) -> None:
        """Forget the parts."""
        _abort(self._client, self._which)


def abort_uploads(client: Any, bucket: str, prefix: str, begun_before: float) -> int:
    """Forget old uploads: S3 keeps their parts, and charges for them, until somebody says so."""
    page: dict[str, Any] = {}
    with faults(), suppress(client.exceptions.NoSuchUpload):  # rclone says so where there never was one
        page = client.list_multipart_uploads(Bucket=bucket, Prefix=prefix)
    old = [one for one in page.get("Uploads", ()) if one["Initiated"].timestamp() < begun_before]
    for one in old:
        _abort(client, {"Bucket": bucket, "Key": one["Key"], "UploadId": one["UploadId"]})
    return len(old)


def _abort(client: Any, which: dict[str, str]) -> None:
    """Forget an upload; one that has ended meanwhile is fine."""
    with faults(), suppress(client.exceptions.NoSuchUpload):
        client.abort_multipart_upload(**which)


class S3Reader:
    """An object's bytes as they come from S3."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, limit: int) -> bytes:
        """Return the next bytes, none at the end."""
        with faults():
            piece: bytes = self._body.read(limit)
        return piece

    def close(self) -> None:
        """Hang up."""
        self._body.close()
