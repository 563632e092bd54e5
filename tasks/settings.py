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
    rows_kept_seconds: float = Field(
        30 * 86_400, ge=0, description="How long the rows of erased jobs, and of batches that ended, are kept."
    )
    idempotency_kept_seconds: float = Field(86_400, ge=0, description="How long an idempotency key is remembered.")
    orphan_age_seconds: float = Field(
        3_600, gt=0, description="An object without a row is swept when older; more than an upload may take."
    )
    max_batch_lines: int = Field(50_000, ge=1, le=1_000_000, description="A file with more lines is no batch.")
    presign_seconds: int = Field(3600, ge=1, le=7 * 86_400, description="How long presigned links work.")
    egress_allow: str = Field("", description="Networks that callers' URLs may lead to although not public (CIDRs).")
    egress_ports: str = Field("443,8443", description="Ports of callers' URLs: single ones and ranges.")
    egress_http: bool = Field(default=False, description="Let callers' URLs begin with http://; only for development.")
    egress_ca_file: str | None = Field(None, description="Authorities to trust beside the public ones (PEM).")
    webhook_timeout_seconds: float = Field(15, gt=0, le=60, description="How long a receiver may take to answer.")
    webhook_delays: str = Field(
        "0,5,300,1800,7200,18000,36000,36000", description="Seconds before each attempt; after the last it is over."
    )
    webhook_overlap_seconds: float = Field(86_400, ge=0, description="How long an old secret signs beside a new one.")
    max_endpoints_per_caller: int = Field(20, ge=1, description="More webhook endpoints of a caller are refused.")
    flower_basic_auth: str = Field("", repr=False, description="USER:PASSWORD; Flower does not start without.")
