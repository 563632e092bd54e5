"""Adapters: what callers have uploaded, and which ones a job uses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

IS_UNFINISHED = sa.text("adapters IS NOT NULL AND finished_at IS NULL")
IS_VISIBLE = sa.text("ready_at IS NOT NULL AND deleted_at IS NULL")
IS_GOING = sa.text("deleted_at IS NOT NULL")
IS_AWAITED = sa.text("ready_at IS NULL")


def upgrade() -> None:
    """Take the step."""
    op.add_column("jobs", sa.Column("adapters", sa.Text(), nullable=True))
    op.create_index(
        "jobs_with_adapters", "jobs", ["adapters"], postgresql_where=IS_UNFINISHED, sqlite_where=IS_UNFINISHED
    )
    op.create_table(
        "adapters",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("caller_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=True),
        sa.Column("dtype", sa.Text(), nullable=True),
        sa.Column("config", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ready_at", sa.Double(), nullable=True),
        sa.Column("deleted_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("adapters_caller", "adapters", ["caller_id", "id"])
    op.create_index("adapters_sha256", "adapters", ["sha256"])
    op.create_index("adapters_object", "adapters", ["object"])
    op.create_index(
        "adapters_name",
        "adapters",
        ["caller_id", "model", "name"],
        unique=True,
        postgresql_where=IS_VISIBLE,
        sqlite_where=IS_VISIBLE,
    )
    op.create_index("adapters_going", "adapters", ["deleted_at"], postgresql_where=IS_GOING, sqlite_where=IS_GOING)
    op.create_index(
        "adapters_awaited", "adapters", ["created_at"], postgresql_where=IS_AWAITED, sqlite_where=IS_AWAITED
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("adapters")
    op.drop_index("jobs_with_adapters", "jobs")
    op.drop_column("jobs", "adapters")
