"""Files: what callers have uploaded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

IS_EXPIRING = sa.text("expires_at IS NOT NULL")


def upgrade() -> None:
    """Take the step."""
    op.create_table(
        "files",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("caller_id", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("files_caller", "files", ["caller_id", "id"])
    op.create_index("files_expiring", "files", ["expires_at"], postgresql_where=IS_EXPIRING, sqlite_where=IS_EXPIRING)


def downgrade() -> None:
    """Take it back."""
    op.drop_table("files")
