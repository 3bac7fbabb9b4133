"""Batches know who made them: the fingerprints of the API keys, and what no key can see."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "claude_keys",
        sa.Column("first_used_at", sa.BigInteger(), nullable=False),
        sa.Column("saw_ours_at", sa.BigInteger(), nullable=True),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("same_as", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=True),
        sa.Column("organization", sa.String(), nullable=True),
        sa.Column("workspace", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("fingerprint"),
    )
    op.add_column("batches", sa.Column("poster", sa.String(), nullable=True))
    op.add_column("batches", sa.Column("unseen_since", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("batches", "unseen_since")
    op.drop_column("batches", "poster")
    op.drop_table("claude_keys")
