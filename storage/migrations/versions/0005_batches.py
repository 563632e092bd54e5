"""Batches and their lines, and the trigger that writes a delivery with a batch's end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IS_UNFINISHED = "status IN ('validating', 'in_progress', 'finalizing', 'cancelling')"
LINE_INDEXES = (
    ("batch_lines_claim", ["queue", "rank"], "status = 'queued' AND run_at IS NULL AND lost = 0"),
    ("batch_lines_suspect", ["queue", "rank"], "status = 'queued' AND run_at IS NULL AND lost > 0"),
    ("batch_lines_scheduled", ["run_at"], "status = 'queued' AND run_at IS NOT NULL"),
    ("batch_lines_running", ["owner"], "status = 'running'"),
)
NOW = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "extract(epoch from statement_timestamp())::float8",
}
FIELDS = {
    "sqlite": "json_extract(NEW.webhook, '$.{name}')",
    "postgresql": "(NEW.webhook::json ->> '{name}')",
}
HAS = {
    "sqlite": "instr(' ' || target.events || ' ', ' batch.' || NEW.status || ' ') > 0",
    "postgresql": "position(' batch.' || NEW.status || ' ' in ' ' || target.events || ' ') > 0",
}
IS_NEWS = (
    "NEW.webhook IS NOT NULL AND NEW.status IN ('completed', 'failed', 'cancelled', 'expired') "
    "AND NEW.status <> OLD.status"
)
# As for jobs: the id of a delivery is made of what it tells, so the same news is never written twice.
WRITE = """
    INSERT INTO webhook_deliveries (
      id, caller_id, endpoint_id, url, origin, event, job_id, status, attempts, tries, next_at, fence, occurred_at)
    SELECT 'msg_' || substr(NEW.id, 7) || '_' || NEW.status || target.suffix, NEW.caller_id, target.endpoint_id,
      target.url, target.origin, 'batch.' || NEW.status, NEW.id, 'pending', 0, 0, {now}, 0, {now}
    FROM (
        SELECT '' AS suffix, NULL AS endpoint_id, {url} AS url, {origin} AS origin, {events} AS events
        UNION ALL
        SELECT '_' || substr(id, 4), id, NULL, origin, events FROM webhook_endpoints
        WHERE caller_id = NEW.caller_id AND enabled = 1
      ) AS target
    WHERE target.origin IS NOT NULL AND {has}
    ON CONFLICT DO NOTHING;"""
TRIGGER = {
    "sqlite": [f"CREATE TRIGGER batches_webhook AFTER UPDATE OF status ON batches WHEN {IS_NEWS} BEGIN {{write}} END"],
    "postgresql": [
        """CREATE FUNCTION write_batch_deliveries() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN {write} RETURN NULL; END $$""",
        f"""CREATE TRIGGER batches_webhook AFTER UPDATE OF status ON batches FOR EACH ROW WHEN ({IS_NEWS})
        EXECUTE FUNCTION write_batch_deliveries()""",
    ],
}


def upgrade() -> None:
    """Take the step."""
    _create_batches()
    _create_lines()
    dialect = op.get_bind().dialect.name
    fields = {name: FIELDS[dialect].format(name=name) for name in ("url", "origin", "events")}
    write = WRITE.format(now=NOW[dialect], has=HAS[dialect], **fields)
    for statement in TRIGGER[dialect]:
        op.get_bind().exec_driver_sql(statement.format(write=write))


def _create_batches() -> None:
    op.create_table(
        "batches",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("caller_id", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("input_file_id", sa.Text(), nullable=False),
        sa.Column("completion_window", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("paused", sa.SmallInteger(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("leased_until", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("in_progress_at", sa.Double(), nullable=True),
        sa.Column("finalizing_at", sa.Double(), nullable=True),
        sa.Column("completed_at", sa.Double(), nullable=True),
        sa.Column("failed_at", sa.Double(), nullable=True),
        sa.Column("expired_at", sa.Double(), nullable=True),
        sa.Column("cancelling_at", sa.Double(), nullable=True),
        sa.Column("cancelled_at", sa.Double(), nullable=True),
        sa.Column("output_kept_seconds", sa.Double(), nullable=True),
        sa.Column("output_file_id", sa.Text(), nullable=True),
        sa.Column("error_file_id", sa.Text(), nullable=True),
        sa.Column("errors", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("webhook", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    where = sa.text(IS_UNFINISHED)
    op.create_index("batches_caller", "batches", ["caller_id", "id"])
    op.create_index("batches_input", "batches", ["input_file_id"])
    op.create_index("batches_unfinished", "batches", ["status"], postgresql_where=where, sqlite_where=where)


def _create_lines() -> None:
    op.create_table(
        "batch_lines",
        sa.Column("id", NUMBER, autoincrement=False, nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("rank", sa.Double(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("errors", sa.SmallInteger(), nullable=False),
        sa.Column("lost", sa.SmallInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("run_at", sa.Double(), nullable=True),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("start", sa.Integer(), nullable=True),
        sa.Column("length", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    for name, columns, condition in LINE_INDEXES:
        where = sa.text(condition)
        op.create_index(name, "batch_lines", columns, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """Take it back."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER batches_webhook")
    else:
        op.execute("DROP TRIGGER batches_webhook ON batches")
        op.execute("DROP FUNCTION write_batch_deliveries")
    for table in ("batch_lines", "batches"):
        op.drop_table(table)
