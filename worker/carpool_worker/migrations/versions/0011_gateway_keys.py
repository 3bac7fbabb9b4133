"""Keys of the gateway, their secrets' hashes, warnings about their budgets, and clients' secrets of webhooks."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ID = sa.LargeBinary(16).with_variant(postgresql.UUID(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "gateway_keys",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("models", sa.String(), nullable=False),
        sa.Column("callback_hosts", sa.String(), nullable=False),
        sa.Column("requests_a_minute", sa.Integer(), nullable=True),
        sa.Column("most_queued", sa.Integer(), nullable=True),
        sa.Column("most_held", sa.Integer(), nullable=True),
        sa.Column("day", sa.BigInteger(), nullable=True),
        sa.Column("month", sa.BigInteger(), nullable=True),
        sa.Column("over", sa.String(), nullable=False),
        sa.Column("lowest_priority", sa.Integer(), nullable=False),
        sa.Column("highest_priority", sa.Integer(), nullable=False),
        sa.Column("workspaces", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_after", sa.BigInteger(), nullable=True),
        sa.Column("first_used_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_index("ix_gateway_keys_client", "gateway_keys", ["client"])
    op.create_table(
        "gateway_secrets",
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("key_id", ID, nullable=False),
        sa.Column("hint", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("valid_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("ix_gateway_secrets_key_id", "gateway_secrets", ["key_id"])
    op.create_table(
        "budget_warnings",
        sa.Column("gateway_key", sa.String(), nullable=False),
        sa.Column("period", sa.String(10), nullable=False),
        sa.Column("percent", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("warned_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("budget", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("gateway_key", "period", "percent"),
    )
    op.create_table(
        "webhook_secrets",
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("valid_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("client", "number"),
    )


def downgrade() -> None:
    for table in ("webhook_secrets", "budget_warnings", "gateway_secrets", "gateway_keys"):
        op.drop_table(table)
