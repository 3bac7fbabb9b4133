"""What a post that came too late has made, and when Anthropic's list was looked at before a post."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.LargeBinary(16).with_variant(postgresql.UUID(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "unowned_batches",
        sa.Column("claude_id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=True),
        sa.Column("headers", sa.String(), nullable=False),
        sa.Column("batch_id", ID, nullable=True),
        sa.Column("request_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("found_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("is_lost", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("claude_id"),
    )
    for name, column, condition in (
        ("ix_unowned_batches_unsettled", "found_at", "settled_at IS NULL"),
        ("ix_unowned_batches_orphans", "found_at", "batch_id IS NOT NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, "unowned_batches", [column], sqlite_where=where, postgresql_where=where)
    op.add_column("batches", sa.Column("looked_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("batches", "looked_at")
    op.drop_table("unowned_batches")
