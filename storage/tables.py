"""The tables: a narrow job row, its input beside it, and everything that owns, runs or steers jobs.

Times are epoch seconds of the database's clock. JSON is text: no dialect rewrites what we stored.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, SmallInteger, Table, Text

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
    Column("webhook", Text),  # {base, url, origin, events}; NULL: nobody waits for its events
    Column("prefill_tokens", Integer),  # what the model will have to read; NULL: not counted
    Column("max_new_tokens", Integer),  # what it will write at most, in all answers together
    Column("adapters", Text),  # the ids of those that it uses, space separated; NULL: none
    Column("pixel_steps", BigInteger),  # of an image job: pixels x steps, of all pictures together
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
    ("jobs_with_adapters", jobs.c.adapters, "adapters IS NOT NULL AND finished_at IS NULL"),
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

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    _text("caller_id"),
    _text("url"),
    _text("origin"),  # scheme, host and port of the url: what limits and due deliveries are counted by
    _text("events"),  # space separated
    _text("description"),
    Column("enabled", SmallInteger, nullable=False),
    Column("disabled_reason", Text),
    _text("secret"),
    Column("previous_secret", Text),
    Column("previous_until", Double),  # both secrets sign until then
    Column("failing_since", Double),
    _text("links"),  # {base}: what its jobs say as their webhook when they have none of their own
    _time("created_at"),
    Index("webhook_endpoints_caller", "caller_id"),
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("caller_id", Text, primary_key=True),
    _text("secret"),
    Column("previous_secret", Text),
    Column("previous_until", Double),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Text, primary_key=True),  # the webhook-id: the same for every attempt and replay
    _text("caller_id"),
    Column("endpoint_id", Text),
    Column("url", Text),  # of a job's own webhook; an endpoint's is looked up when it is sent
    _text("origin"),
    _text("event"),
    Column("job_id", Text),
    _text("status"),  # pending, delivered, exhausted
    Column("attempts", Integer, nullable=False),
    Column("tries", SmallInteger, nullable=False),  # attempts since the schedule began, or began anew
    Column("next_at", Double),  # not before; whoever claims it moves this by his lease
    Column("fence", Integer, nullable=False),
    _time("occurred_at"),
    Column("ended_at", Double),
    Column("last_status", Integer),
    Column("last_error", Text),
    Index("webhook_deliveries_caller", "caller_id", "id"),
)
for _name, _columns, _condition in (
    ("webhook_deliveries_due", ("origin", "next_at"), "status = 'pending'"),
    ("webhook_deliveries_job", ("job_id",), "job_id IS NOT NULL"),
    ("webhook_deliveries_endpoint", ("endpoint_id", "occurred_at"), "endpoint_id IS NOT NULL"),
    ("webhook_deliveries_ended", ("ended_at",), "ended_at IS NOT NULL"),
):
    Index(
        _name,
        *(webhook_deliveries.c[_one] for _one in _columns),
        postgresql_where=sa.text(_condition),
        sqlite_where=sa.text(_condition),
    )

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    _time("at"),
    Column("status", Integer),
    Column("latency_ms", Double, nullable=False),
    Column("error", Text),
)

files = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    _text("caller_id"),
    _text("purpose"),
    _text("filename"),
    Column("bytes", BigInteger, nullable=False),
    _text("sha256"),
    _time("created_at"),
    Column("expires_at", Double),
    Index("files_caller", "caller_id", "id"),
)
IS_EXPIRING = sa.text("expires_at IS NOT NULL")
Index("files_expiring", files.c.expires_at, postgresql_where=IS_EXPIRING, sqlite_where=IS_EXPIRING)

batches = Table(
    "batches",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),  # never used again
    Column("id", Text, nullable=False, unique=True),
    _text("caller_id"),
    _text("endpoint"),
    _text("input_file_id"),
    _text("completion_window"),
    _text("status"),
    Column("paused", SmallInteger, nullable=False),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("fence", Integer, nullable=False),  # grows with each process that takes the work on the batch itself
    Column("leased_until", Double),  # NULL: nobody works on it
    _time("created_at"),
    _time("expires_at"),  # the end of its window
    Column("in_progress_at", Double),
    Column("finalizing_at", Double),
    Column("completed_at", Double),
    Column("failed_at", Double),
    Column("expired_at", Double),  # when its window closed on it
    Column("cancelling_at", Double),
    Column("cancelled_at", Double),
    Column("output_kept_seconds", Double),
    Column("output_file_id", Text),
    Column("error_file_id", Text),
    Column("errors", Text),  # [{code, line, message, param}]
    Column("metadata", Text),
    Column("webhook", Text),  # as of a job
    Column("request_id", Text),
    Column("cached_tokens", BigInteger),  # of the prompts' tokens
    Index("batches_caller", "caller_id", "id"),
    Index("batches_input", "input_file_id"),
    sqlite_autoincrement=True,
)
IS_UNFINISHED = sa.text("status IN ('validating', 'in_progress', 'finalizing', 'cancelling')")
Index("batches_unfinished", batches.c.status, postgresql_where=IS_UNFINISHED, sqlite_where=IS_UNFINISHED)

batch_lines = Table(
    "batch_lines",
    metadata,
    # The batch's number, then the line's: 43 and 20 bits.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    _text("queue"),
    Column("rank", Double, nullable=False),
    _text("status"),
    Column("attempt", Integer, nullable=False),
    Column("errors", SmallInteger, nullable=False),
    Column("lost", SmallInteger, nullable=False),
    Column("owner", Text),
    Column("run_at", Double),  # not before; cleared by the reconciler when it has come
    Column("chunk", Integer, nullable=False),  # where the input lies: in which object, and at which place
    Column("place", Integer, nullable=False),
    Column("answer", Text),  # where the answer lies: in which object, from where on, how long
    Column("start", Integer),
    Column("length", Integer),
    Column("error", Text),  # why there is no answer
)
IS_RUNNING = sa.text("status = 'running'")
for _name, _columns, _is_in in (
    ("batch_lines_claim", ("queue", "rank"), IS_CLAIMABLE),
    ("batch_lines_suspect", ("queue", "rank"), IS_SUSPECT),
    ("batch_lines_scheduled", ("run_at",), IS_SCHEDULED),
    ("batch_lines_running", ("owner",), IS_RUNNING),
):
    Index(_name, *(batch_lines.c[_one] for _one in _columns), postgresql_where=_is_in, sqlite_where=_is_in)


adapters = Table(
    "adapters",
    metadata,
    Column("id", Text, primary_key=True),
    _text("caller_id"),  # '' where everybody may use it
    _text("name"),
    _text("model"),
    _text("kind"),
    _text("sha256"),
    Column("bytes", BigInteger, nullable=False),
    _text("object"),  # the id under whose key the bytes lie: rows of equal bytes share it
    Column("rank", Integer),
    Column("dtype", Text),
    Column("config", Text),  # what PEFT keeps in a file of its own; NULL: the weights say it all
    _time("created_at"),
    Column("ready_at", Double),  # NULL: its bytes are still awaited
    Column("deleted_at", Double),  # nobody sees it any more; it goes when no unfinished job uses it
    Index("adapters_caller", "caller_id", "id"),
    Index("adapters_sha256", "sha256"),
    Index("adapters_object", "object"),
)
IS_VISIBLE = sa.text("ready_at IS NOT NULL AND deleted_at IS NULL")
IS_GOING = sa.text("deleted_at IS NOT NULL")
IS_AWAITED = sa.text("ready_at IS NULL")
Index(
    "adapters_name",
    adapters.c.caller_id,
    adapters.c.model,
    adapters.c.name,
    unique=True,
    postgresql_where=IS_VISIBLE,
    sqlite_where=IS_VISIBLE,
)
Index("adapters_going", adapters.c.deleted_at, postgresql_where=IS_GOING, sqlite_where=IS_GOING)
Index("adapters_awaited", adapters.c.created_at, postgresql_where=IS_AWAITED, sqlite_where=IS_AWAITED)
