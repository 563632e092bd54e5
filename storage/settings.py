"""What storage needs to know of the process it runs in."""

from __future__ import annotations

from pydantic import Field

from schemas.settings import Settings


class StorageSettings(Settings):
    """Where the truth, the hints and the bytes are."""

    database_url: str = "sqlite+pysqlite:///.stoker/data/stoker.db"
    database_wait_seconds: float = Field(30, ge=0, description="How long a start waits for SQL before it gives up.")
    redis_url: str = "redis://127.0.0.1:6379/0"
    s3_endpoint: str = "http://127.0.0.1:9000"
    s3_public_endpoint: str | None = Field(None, description="What presigned links use; the endpoint when unset.")
    s3_region: str = "us-east-1"
    s3_access_key: str = ""
    s3_secret_key: str = Field("", repr=False)
    s3_bucket: str = "stoker"
    catalog: str = "models.toml"
