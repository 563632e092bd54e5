"""What a worker needs to know of the process it runs in."""

from __future__ import annotations

from pydantic import Field

from schemas.settings import Settings


class WorkerSettings(Settings):
    """Who started us and how they learn that we are ready."""

    adapter_disk_bytes: int = Field(
        20 * 2**30, ge=0, description="How much of the disk a worker takes for adapters that callers uploaded."
    )
    parent_fd: int | None = Field(None, description="A pipe whose other end the supervisor holds.")
    ready_file: str | None = Field(None, description="A file that appears when the worker is ready.")
