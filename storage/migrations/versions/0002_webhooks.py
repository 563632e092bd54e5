"""Webhooks: endpoints, secrets, deliveries, and the trigger that writes a delivery with the change it tells of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NOW = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "extract(epoch from statement_timestamp())::float8",
}
FIELDS = {
    "sqlite": "json_extract(NEW.webhook, '$.{name}')",
    "postgresql": "(NEW.webhook::json ->> '{name}')",
}
HAS = {
    "sqlite": "instr(' ' || target.events || ' ', ' job.' || said.name || ' ') > 0",
    "postgresql": "position(' job.' || said.name || ' ' in ' ' || target.events || ' ') > 0",
}
IS_NEWS = "NEW.webhook IS NOT NULL AND NEW.status <> 'queued' AND NEW.status <> OLD.status"
# The id of a delivery is made of what it tells, so the same news is never written twice.
WRITE = """
    INSERT INTO webhook_deliveries (
      id, caller_id, endpoint_id, url, origin, event, job_id, status, attempts, tries, next_at, fence, occurred_at)
    SELECT 'msg_' || substr(NEW.id, 5) || '_' || said.name || target.suffix, NEW.caller_id, target.endpoint_id,
      target.url, target.origin, 'job.' || said.name, NEW.id, 'pending', 0, 0, {now}, 0, {now}
    FROM (SELECT CASE NEW.status WHEN 'running' THEN 'started' ELSE NEW.status END AS name) AS said,
      (
        SELECT '' AS suffix, NULL AS endpoint_id, {url} AS url, {origin} AS origin, {events} AS events
        UNION ALL
        SELECT '_' || substr(id, 4), id, NULL, origin, events FROM webhook_endpoints
        WHERE caller_id = NEW.caller_id AND enabled = 1
      ) AS target
    WHERE target.origin IS NOT NULL AND {has}
    ON CONFLICT DO NOTHING;"""
TRIGGER = {
    "sqlite": [f"CREATE TRIGGER jobs_webhook AFTER UPDATE OF status ON jobs WHEN {IS_NEWS} BEGIN {{write}} END"],
    "postgresql": [
        """CREATE FUNCTION write_webhook_deliveries() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN {write} RETURN NULL; END $$""",
        f"""CREATE TRIGGER jobs_webhook AFTER UPDATE OF status ON jobs FOR EACH ROW WHEN ({IS_NEWS})
        EXECUTE FUNCTION write_webhook_deliveries()""",
    ],
}
INDEXES = (
    ("webhook_deliveries_due", ["origin", "next_at"], "status = 'pending'"),
    ("webhook_deliveries_job", ["job_id"], "job_id IS NOT NULL"),
    ("webhook_deliveries_endpoint", ["endpoint_id", "occurred_at"], "endpoint_id IS NOT NULL"),
    ("webhook_deliveries_ended", ["ended_at"], "ended_at IS NOT NULL"),
)


def upgrade() -> None:
    """Take the step."""
    op.add_column("jobs", sa.Column("webhook", sa.Text(), nullable=True))
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("caller_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("enabled", sa.SmallInteger(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("previous_secret", sa.Text(), nullable=True),
        sa.Column("previous_until", sa.Double(), nullable=True),
        sa.Column("failing_since", sa.Double(), nullable=True),
        sa.Column("links", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("webhook_endpoints_caller", "webhook_endpoints", ["caller_id"])
    op.create_table(
        "webhook_secrets",
        sa.Column("caller_id", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("previous_secret", sa.Text(), nullable=True),
        sa.Column("previous_until", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("caller_id"),
    )
    _create_deliveries()
    dialect = op.get_bind().dialect.name
    fields = {name: FIELDS[dialect].format(name=name) for name in ("url", "origin", "events")}
    write = WRITE.format(now=NOW[dialect], has=HAS[dialect], **fields)
    for statement in TRIGGER[dialect]:
        op.get_bind().exec_driver_sql(statement.format(write=write))


def _create_deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("caller_id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("tries", sa.SmallInteger(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("occurred_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("webhook_deliveries_caller", "webhook_deliveries", ["caller_id", "id"])
    for name, columns, condition in INDEXES:
        where = sa.text(condition)
        op.create_index(name, "webhook_deliveries", columns, postgresql_where=where, sqlite_where=where)
    op.create_table(
        "webhook_attempts",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("delivery_id", "number"),
    )


def downgrade() -> None:
    """Take it back."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER jobs_webhook")
    else:
        op.execute("DROP TRIGGER jobs_webhook ON jobs")
        op.execute("DROP FUNCTION write_webhook_deliveries")
    for table in ("webhook_attempts", "webhook_deliveries", "webhook_secrets", "webhook_endpoints"):
        op.drop_table(table)
    op.drop_column("jobs", "webhook")
