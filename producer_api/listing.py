"""Which jobs a list shows: the query of GET /v1/jobs."""

from __future__ import annotations

import re
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.errors import InvalidError
from schemas.jobs import Kind, Status
from schemas.refusals import NAME_CHARACTERS, no_such
from storage.jobs import Filter

METADATA = re.compile(r"metadata\[(.{1,200})\]", re.DOTALL)


class JobQuery(BaseModel):
    """What a list may be asked for; `metadata[key]=value` filters by metadata."""

    model_config = ConfigDict(extra="allow", frozen=True)

    limit: int = Field(20, ge=1, le=100, description="How many jobs at most.")
    after: str | None = Field(
        None, max_length=100, pattern="^job_[0-9a-z]{23}$", description="The `next_cursor` of the page before."
    )
    status: Status | None = None
    kind: Kind | None = None
    model: str | None = Field(None, max_length=128)
    queue: str | None = Field(None, max_length=128)
    created_after: AwareDatetime | None = Field(None, description="Created at this moment or later (RFC 3339).")
    created_before: AwareDatetime | None = Field(None, description="Created before this moment (RFC 3339).")
    caller: str | None = Field(None, max_length=200, description="Another caller's jobs; for admins.")

    def as_filter(self, caller_id: str) -> Filter:
        """Return what storage looks for."""
        return Filter(
            caller_id=caller_id,
            limit=self.limit,
            after=self.after,
            status=self.status,
            kind=self.kind,
            model=self.model,
            queue=self.queue,
            created_after=seconds_of(self.created_after),
            created_before=seconds_of(self.created_before),
            metadata=tuple((_metadata_key(name), str(value)) for name, value in (self.model_extra or {}).items()),
        )


def _metadata_key(parameter: str) -> str:
    match = METADATA.fullmatch(parameter)
    if match is None:
        name = parameter[:NAME_CHARACTERS]
        raise InvalidError(no_such("parameter", name), param=name)
    return match[1]


def seconds_of(moment: datetime | None) -> float | None:
    """Return a moment as rows have it."""
    return moment.timestamp() if moment else None
