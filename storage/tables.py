"""The tables: a narrow job row, its input beside it, and everything that owns, runs or steers jobs.

Times are epoch seconds of the database's clock. JSON is text: no dialect rewrites what we stored.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Double, Index, Integer, MetaData, SmallInteger, Table, Text

metadata = MetaData()


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _time(name: str) -> Column[float]:
    return Column(name, Double, nullable=False)


callers = Table(
    "callers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    _time("created_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    _text("caller_id"),
    Column("hash", Text, nullable=False, unique=True),  # sha256: the key itself has 256 random bits
    _text("hint"),  # the last characters, to tell keys apart
    _text("name"),
    _text("scopes"),  # space separated
    _time("created_at"),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Index("api_keys_caller", "caller_id"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    _text("caller_id"),
    _text("kind"),
    _text("model"),
    _text("revision"),
    _text("queue"),
    _text("status"),
    Column("rank", Double, nullable=False),
    _text("priority"),
    Column("attempt", Integer, nullable=False),
    Column("lost", SmallInteger, nullable=False),
    Column("errors", SmallInteger, nullable=False),
    Column("max_attempts", SmallInteger, nullable=False),
    Column("owner", Text),
    Column("cancel_requested", SmallInteger, nullable=False),
    Column("run_at", Double),  # not before; cleared by the reconciler when it has come
    _time("expires_at"),  # the end of its ttl: it never begins after this
    _time("timeout_seconds"),
    _time("retention_seconds"),
    _time("created_at"),
    _time("queued_at"),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("retained_until", Double),
    Column("erased_at", Double),
    Column("deleted_at", Double),
    Column("metadata", Text),
    Column("output", Text),
    Column("artifacts", Text),  # [{name, key, content_type, bytes, sha256}]
    Column("error", Text),
    Column("usage", Text),
    Column("metrics", Text),
    Column("retry_of", Text),
    Column("request_id", Text),
)
IS_CLAIMABLE = sa.text("status = 'queued' AND run_at IS NULL AND lost = 0")
IS_SUSPECT = sa.text("status = 'queued' AND run_at IS NULL AND lost > 0")
IS_SCHEDULED = sa.text("status = 'queued' AND run_at IS NOT NULL")
Index("jobs_claim", jobs.c.queue, jobs.c.rank, postgresql_where=IS_CLAIMABLE, sqlite_where=IS_CLAIMABLE)
Index("jobs_suspect", jobs.c.queue, jobs.c.rank, postgresql_where=IS_SUSPECT, sqlite_where=IS_SUSPECT)
for _name, _column, _condition in (
    ("jobs_running", jobs.c.owner, "status = 'running'"),
    ("jobs_waiting_of_caller", jobs.c.caller_id, "status = 'queued'"),
    ("jobs_expiring", jobs.c.expires_at, "status = 'queued'"),
    ("jobs_scheduled", jobs.c.run_at, "status = 'queued' AND run_at IS NOT NULL"),
    ("jobs_erased", jobs.c.erased_at, "erased_at IS NOT NULL"),
    ("jobs_retained", jobs.c.retained_until, "erased_at IS NULL AND retained_until IS NOT NULL"),
):
    Index(_name, _column, postgresql_where=sa.text(_condition), sqlite_where=sa.text(_condition))
Index("jobs_caller", jobs.c.caller_id, jobs.c.id)

job_inputs = Table(
    "job_inputs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("input", Text),  # JSON up to 16 KiB, else …
    Column("object_key", Text),  # … the object that holds it
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("caller_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _text("fingerprint"),
    _text("job_id"),
    _time("created_at"),
    Index("idempotency_age", "created_at"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    _text("model"),
    _text("device"),
    _text("queue"),
    _text("host"),
    Column("pid", Integer, nullable=False),
    _text("state"),
    Column("slots", Integer, nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("drain_requested", SmallInteger, nullable=False),
    _time("started_at"),
    _time("beat_at"),
    _time("lease_until"),
    Column("stats", Text),
    Index("workers_queue", "queue"),
)

queues = Table(
    "queues",
    metadata,
    Column("name", Text, primary_key=True),
    _text("kind"),
    _text("model"),
    _text("device"),
    Column("paused", SmallInteger, nullable=False),
)
