"""What running jobs needs to know of the process it runs in."""

from __future__ import annotations

from pydantic import Field

from schemas.settings import Settings


class TaskSettings(Settings):
    """Leases, hints and how long things are kept."""

    lease_seconds: float = Field(15, ge=0.5, description="A worker that is silent for longer has lost its jobs.")
    drain_seconds: float = Field(30, ge=0, description="How long a stopping worker lets its jobs finish.")
    tick_seconds: float = Field(1, ge=0.1, description="How often the reconciler looks.")
    sweep_seconds: float = Field(60, ge=0.5, description="How often retention and orphans are swept.")
    retention_seconds: float = Field(7 * 86_400, gt=0, description="How long results are kept when nothing is said.")
    rows_kept_seconds: float = Field(30 * 86_400, ge=0, description="How long the rows of erased jobs are kept.")
    idempotency_kept_seconds: float = Field(86_400, ge=0, description="How long an idempotency key is remembered.")
    orphan_age_seconds: float = Field(3_600, gt=0, description="An object without a row is swept when older.")
    flower_basic_auth: str = Field("", repr=False, description="USER:PASSWORD; Flower does not start without.")
