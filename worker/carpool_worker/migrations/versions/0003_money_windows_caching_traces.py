"""Priorities, deadlines, traces, shared prompts, reservations of budgets, and refused submissions by status.

After a downgrade, held requests are retried at once, as the older tables cannot express that they are over budget.
Requests that were never in a batch keep their attempt of 0 and their empty batch.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ESTIMATED = sa.text("estimate IS NOT NULL")


def upgrade() -> None:
    for table in ("requests", "batches"):
        op.add_column(table, sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        op.add_column(table, sa.Column("submit_by", sa.BigInteger(), nullable=True))
    op.add_column("requests", sa.Column("prefix", sa.String(16), nullable=True))
    op.add_column("requests", sa.Column("trace", sa.String(), nullable=True))
    op.add_column("requests", sa.Column("estimate", sa.BigInteger(), nullable=True))
    op.add_column("requests", sa.Column("held_at", sa.BigInteger(), nullable=True))
    op.add_column("batches", sa.Column("marked", sa.String(), nullable=True))
    op.add_column("batches", sa.Column("warm_up_id", sa.String(32), nullable=True))
    op.add_column("batches", sa.Column("warm_until", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_requests_estimated",
        "requests",
        ["client", "held_at", "estimate"],
        sqlite_where=ESTIMATED,
        postgresql_where=ESTIMATED,
    )
    op.create_table(
        "refusals",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("model", "status"),
    )


def downgrade() -> None:
    op.execute("UPDATE requests SET retry_at = held_at WHERE state = 'retryable' AND held_at IS NOT NULL")
    op.drop_table("refusals")
    op.drop_index("ix_requests_estimated", "requests")
    for column in ("warm_until", "warm_up_id", "marked", "submit_by", "priority"):
        op.drop_column("batches", column)
    for column in ("held_at", "estimate", "trace", "prefix", "submit_by", "priority"):
        op.drop_column("requests", column)
