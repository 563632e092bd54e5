"""What the API needs to know of the process it runs in."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.settings import Settings


class Environment(StrEnum):
    """How much the process trusts its surroundings."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class ApiSettings(Settings):
    """Addresses, limits and who started us."""

    environment: Environment = Environment.PRODUCTION
    api_host: str = "127.0.0.1"
    api_port: int = Field(8000, ge=0, le=65_535)
    public_url: str | None = Field(None, description="What links begin with; the request's own host when unset.")
    max_queued_per_caller: int = Field(10_000, ge=1)
    max_body_bytes: int = Field(8 * 2**20, ge=1024)
    max_drain_bytes: int = Field(32 * 2**20, ge=1024, description="What is read of a body that is refused.")
    wait_limit_seconds: float = Field(60, gt=0)
    presign_seconds: int = Field(3600, ge=1, le=7 * 86_400)
    stop_seconds: float = Field(8, gt=0, description="How long a stopping API lets its answers finish.")
    parent_fd: int | None = None
    ready_file: str | None = None
