"""What storage needs to know of the process it runs in."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from schemas.settings import HttpAddress, Settings


def _check_redis(value: str) -> str:
    if urlsplit(value).scheme not in ("redis", "rediss", "unix"):
        message = "it must be an address such as redis://127.0.0.1:6379/0"
        raise ValueError(message)
    return value


class StorageSettings(Settings):
    """Where the truth, the hints and the bytes are."""

    database_url: str = Field(
        "sqlite+pysqlite:///.stoker/data/stoker.db",
        repr=False,
        description="SQLAlchemy's URL of SQLite or Postgres (`postgresql+psycopg://…`).",
    )
    database_wait_seconds: float = Field(30, ge=0, description="How long a start waits for SQL before it gives up.")
    redis_url: Annotated[str, AfterValidator(_check_redis)] = Field(
        "redis://127.0.0.1:6379/0", repr=False, description="The broker, event logs and bells."
    )
    s3_endpoint: HttpAddress = Field("http://127.0.0.1:9000", description="The object store, as the parts reach it.")
    s3_public_endpoint: HttpAddress | None = Field(
        None, description="What presigned links use; the endpoint when unset."
    )
    s3_region: str = Field("us-east-1", description="The object store's region.")
    s3_access_key: str = Field("", description="Its access key.")
    s3_secret_key: str = Field("", repr=False, description="Its secret key.")
    s3_bucket: str = Field("stoker", description="The bucket, made when it is missing.")
    weights_dir: str = Field(".stoker/weights", description="Where models that come from a bucket are kept.")
    catalog: str = Field("models.toml", description="The catalog's path.")
