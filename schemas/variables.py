"""The names of all STOKER_* variables, so that every part can tell a misspelt one from one that is another part's."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from schemas.settings import PREFIX

LIKENESS = 0.75
"""How alike two names must be for one to be meant by the other."""

_OF_PARTS = """
ADAPTER_DISK_BYTES API_HOST API_PORT CATALOG DATABASE_URL DATABASE_WAIT_SECONDS DOOR_TIMEOUT_SECONDS DRAIN_SECONDS
EGRESS_ALLOW EGRESS_CA_FILE EGRESS_HTTP EGRESS_PORTS ENVIRONMENT FILE_KEPT_SECONDS FLOWER_BASIC_AUTH
IDEMPOTENCY_KEPT_SECONDS LEASE_SECONDS LORA_BUCKETS LORA_EGRESS_ALLOW LORA_EGRESS_PORTS MAX_BATCH_LINES
MAX_BODY_BYTES MAX_ENDPOINTS_PER_CALLER MAX_FILE_BYTES MAX_LORAS_PER_CALLER MAX_LORA_BYTES
MAX_LORA_FORM_BYTES MAX_QUEUED_PER_CALLER ORPHAN_AGE_SECONDS PARENT_FD PRESIGN_SECONDS PUBLIC_URL READY_FILE
REDIS_URL RETENTION_SECONDS ROWS_KEPT_SECONDS S3_ACCESS_KEY S3_BUCKET S3_ENDPOINT S3_PUBLIC_ENDPOINT S3_REGION
S3_SECRET_KEY STOP_SECONDS SWEEP_SECONDS TICK_SECONDS UPLOAD_SECONDS WAIT_LIMIT_SECONDS WEBHOOK_DELAYS
WEBHOOK_OVERLAP_SECONDS WEBHOOK_TIMEOUT_SECONDS WEIGHTS_DIR
"""
_OF_OTHERS = "HOME URL API_KEY FLOWER_URL FLOWER_PORT REDIS_PORT S3_PORT POSTGRES_PASSWORD PUBLISH VLLM"

SETTINGS = frozenset(PREFIX + name for name in _OF_PARTS.split())
"""The settings of the parts; docs/operations.md says what each is."""
OTHERS = frozenset(PREFIX + name for name in _OF_OTHERS.split())
"""What `make up`, the client and docker-compose.yml read beside them."""


def unknown_variables(environment: Mapping[str, str]) -> str | None:
    """Return a sentence about STOKER_* variables that nobody reads, with what may have been meant, or nothing.

    They stop nobody: other programs may have variables of that beginning, too.
    """
    known = SETTINGS | OTHERS
    named = sorted(name for name, value in environment.items() if name.startswith(PREFIX) and value)
    unknown = [name + _meant(name) for name in named if name not in known]
    return f"Stoker has no such settings and ignores them: {', '.join(unknown)}." if unknown else None


def _meant(name: str) -> str:
    ends = {known.removeprefix(PREFIX): known for known in SETTINGS | OTHERS}
    near = difflib.get_close_matches(name.removeprefix(PREFIX), ends, n=1, cutoff=LIKENESS)
    return f" (did you mean {ends[near[0]]}?)" if near else ""
