"""Adapters on the wire: what is sent to make one, and how one looks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.base import JsonObject, Strict
from schemas.catalog import Alias
from schemas.jobs import Kind
from storage.adapters import EVERYBODY, AdapterFilter, AdapterRow
from tasks.loras.metadata import LARGEST_ALPHA
from tasks.views import moment

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class LoraFields(Strict):
    """What every way to add an adapter asks."""

    model: str = Field(min_length=1, max_length=128, description="The model that it is for.")
    name: Alias = Field(description="What you want to call it: small letters, digits and hyphens.")
    alpha: float | None = Field(
        None, gt=0, le=LARGEST_ALPHA, description="Of a text adapter: `lora_alpha` in its adapter_config.json."
    )
    shared: bool = Field(default=False, description="Let everybody use it; for admins.")


class LoraForm(LoraFields):
    """The fields that come with a file."""

    sha256: Sha256 | None = Field(None, description="Of the file; another file is refused then.")


class LoraImport(LoraFields):
    """Where an adapter is to be fetched from."""

    url: str = Field(
        min_length=1, max_length=2048, description="`https://…`, or `s3://…` where the operator allows it."
    )
    sha256: Sha256


class LoraUploadRequest(LoraFields):
    """An adapter whose bytes the caller will put into the object store himself."""

    bytes: int = Field(ge=1, description="How long the file is, exactly.")
    sha256: Sha256


class LoraAnswer(Strict):
    """An adapter."""

    id: str = Field(description="What jobs name; of the catalog's adapters their name.")
    object: Literal["lora"]
    name: str
    base_model: str
    kind: Kind
    rank: int | None
    dtype: str | None
    bytes: int | None
    sha256: str | None
    shared: bool = Field(description="Whether everybody may use it.")
    source: Literal["catalog", "upload"]
    description: str
    resident_on: list[str] = Field(description="The queues whose workers have it in memory.")
    created_at: str | None


class LoraList(Strict):
    """Some adapters."""

    object: Literal["list"]
    data: list[LoraAnswer]
    has_more: bool
    next_cursor: str | None = Field(description="Send it as `after` to get the next page.")


class LoraDeletion(Strict):
    """An adapter that is gone; jobs that were submitted with it still run."""

    id: str
    object: Literal["lora"]
    deleted: bool


class LoraUpload(Strict):
    """Where to put an adapter's bytes: then call `complete_url`."""

    id: str
    object: Literal["lora.upload"]
    method: Literal["PUT"]
    url: str
    headers: dict[str, str]
    expires_at: str
    complete_url: str


class LoraQuery(BaseModel):
    """What a list may be asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(20, ge=1, le=100, description="How many adapters at most.")
    after: str | None = Field(
        None,
        max_length=200,
        pattern="^(lora_[0-9a-z]{23}|[a-z0-9-]+:[a-z0-9-]+)$",
        description="The `next_cursor` of the page before.",
    )
    model: str | None = Field(None, max_length=128, description="Only adapters for this model.")
    kind: Kind | None = None
    caller: str | None = Field(None, max_length=200, description="Another caller's adapters; for admins.")

    def as_filter(self, caller_id: str, after: str | None) -> AdapterFilter:
        """Return what storage looks for."""
        return AdapterFilter(caller_id, self.limit, after, self.model, self.kind.value if self.kind else None)


def lora_view(row: AdapterRow, resident_on: list[str]) -> JsonObject:
    """Return an uploaded adapter as callers see it."""
    return {
        "id": row.id,
        "object": "lora",
        "name": row.name,
        "base_model": row.model,
        "kind": row.kind,
        "rank": row.rank,
        "dtype": row.dtype,
        "bytes": row.bytes,
        "sha256": row.sha256,
        "shared": row.caller_id == EVERYBODY,
        "source": "upload",
        "description": "",
        "resident_on": resident_on,
        "created_at": moment(row.created_at),
    }


LORA_BODIES = (LoraImport, LoraUploadRequest)
"""What the library reads from JSON bodies."""
