"""What a job is predicted to cost: tokens to read, and tokens to write at most."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = ("prefill_tokens", "max_new_tokens")


def upgrade() -> None:
    """Take the step."""
    for name in COLUMNS:
        op.add_column("jobs", sa.Column(name, sa.Integer(), nullable=True))


def downgrade() -> None:
    """Take it back."""
    for name in COLUMNS:
        op.drop_column("jobs", name)
