"""What the API needs to know of the process it runs in."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.settings import HttpAddress, Settings


class Environment(StrEnum):
    """How much the process trusts its surroundings."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class ApiSettings(Settings):
    """Addresses, limits and who started us."""

    environment: Environment = Field(Environment.PRODUCTION, description="`development` shows /docs to everybody.")
    api_host: str = Field("127.0.0.1", description="The address to listen on.")
    api_port: int = Field(8000, ge=0, le=65_535, description="The port to listen on.")
    public_url: HttpAddress | None = Field(
        None, description="What links begin with; the request's own host when unset."
    )
    max_queued_per_caller: int = Field(10_000, ge=1, description="More waiting jobs of one caller are refused (429).")
    max_body_bytes: int = Field(8 * 2**20, ge=1024, description="Larger request bodies are refused (413).")
    max_file_bytes: int = Field(200 * 2**20, ge=1024, description="Larger files are refused (413).")
    upload_seconds: float = Field(1800, gt=0, le=3600, description="How long the upload of a file may take.")
    file_kept_seconds: float = Field(30 * 86_400, gt=0, description="How long a file is kept that says nothing of it.")
    max_lora_form_bytes: int = Field(256 * 2**20, ge=1024, description="Larger LoRAs are refused in a form (413).")
    max_lora_bytes: int = Field(2**30, ge=1024, description="Larger LoRAs are refused whichever way they come (413).")
    max_loras_per_caller: int = Field(200, ge=1, description="More LoRAs of one caller are refused (429).")
    lora_buckets: str = Field("", description="Where LoRAs may be imported from: s3://BUCKET/PREFIX, comma separated.")
    lora_egress_allow: str = Field(
        "", description="Networks that LoRAs may be imported from although not public (CIDRs)."
    )
    lora_egress_ports: str = Field("443,8443", description="Ports that LoRAs may be imported from.")
    wait_limit_seconds: float = Field(60, gt=0, description="The longest `Prefer: wait`; more counts as this.")
    door_timeout_seconds: float = Field(
        300, gt=0, le=86_400, description="How long OpenAI-compatible calls wait for their job before they cancel it."
    )
    stop_seconds: float = Field(8, gt=0, description="How long a stopping API lets its answers finish.")
    parent_fd: int | None = Field(None, description="A pipe whose other end the supervisor holds.")
    ready_file: str | None = Field(None, description="A file that appears when the part is ready.")
