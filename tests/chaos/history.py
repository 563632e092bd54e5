"""What the client saw of each job: every answer, in the order in which it was asked for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from schemas.base import JsonObject
from schemas.jobs import TERMINAL, Status


@dataclass(frozen=True, slots=True)
class Expectation:
    """How a job may end, and the output that it must have when it succeeds."""

    ends: frozenset[Status] = frozenset({Status.SUCCEEDED})
    error_codes: frozenset[str] = frozenset()
    """Why it may fail; without one any reason is wrong."""
    output: str = ""
    """The digest of the only right output."""
    files: dict[str, str] = field(default_factory=dict)
    """The sha256 of each file that the engine itself must make, by name."""


@dataclass(frozen=True, slots=True)
class Look:
    """One answer about a job; `asked_at` and `answered_at` order it among others that ran beside it."""

    asked_at: float
    answered_at: float
    status: Status
    attempt: int = 0
    output: str = ""
    """The digest of the output that it showed."""
    ending: str = ""
    """The digest of everything else that may not change after the end."""
    error_code: str | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    @classmethod
    def at(cls, job: JsonObject, asked_at: float, answered_at: float) -> Look:
        """Read a job object."""
        error, status = job["error"], Status(job["status"])
        ending = [job["attempt"], job["finished_at"], error, [one["sha256"] for one in job["artifacts"]]]
        return cls(
            asked_at,
            answered_at,
            status,
            job["attempt"],
            "" if job["output"] is None else digest(job["output"]),
            digest(ending) if status in TERMINAL else "",
            error["code"] if error else None,
        )


@dataclass(slots=True)
class JobHistory:
    """One submission and all that came of it."""

    key: str
    expected: Expectation
    job_ids: set[str] = field(default_factory=set)
    looks: list[Look] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    """The digest of the result's bytes, each time they were fetched."""
    wrong_results: list[str] = field(default_factory=list)
    """Sentences about fetched bytes that were not what they had to be."""
    lost_replies: int = 0
    """Submits whose answer never came."""
    refusals: int = 0
    """Submits that were answered with 5xx: nothing may have happened."""
    was_replayed: bool = False
    """The answer said that an earlier submit with this key had made the job."""
    server_errors: list[str] = field(default_factory=list)
    """Answers that no client may ever get: a 500, or a refusal of a valid request."""

    @property
    def job_id(self) -> str | None:
        return min(self.job_ids, default=None)

    @property
    def last_look(self) -> Look | None:
        return max(self.looks, key=lambda look: look.asked_at, default=None)

    @property
    def has_ended(self) -> bool:
        return any(look.is_terminal for look in self.looks)


def digest(value: Any) -> str:
    """Return a short fingerprint of a JSON value or of bytes."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, ensure_ascii=False).encode()
    return hashlib.sha256(data).hexdigest()[:16]
