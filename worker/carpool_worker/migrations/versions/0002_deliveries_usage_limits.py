"""Deliveries, usage, and what limits and delays batches. With these the first schema is complete."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.LargeBinary(16).with_variant(postgresql.UUID(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("answer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("progress_at", sa.BigInteger(), nullable=True),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("discarded_at", sa.BigInteger(), nullable=True),
        sa.Column("claims", sa.Integer(), server_default="0", nullable=False),
        sa.Column("pending", sa.Integer(), nullable=False),
        sa.Column("delivered", sa.Integer(), server_default="0", nullable=False),
        sa.Column("position", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("request_id", ID, nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("receiver", sa.String(), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("progress", sa.String(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.CheckConstraint(
            "(state = 'delivered') = (delivered_at IS NOT NULL)",
            name="ck_deliveries_delivered_at",
        ),
        sa.CheckConstraint(
            "(state = 'discarded') = (discarded_at IS NOT NULL)",
            name="ck_deliveries_discarded_at",
        ),
        sa.CheckConstraint(
            "(position >= 0) = (request_id IS NOT NULL)",
            name="ck_deliveries_request",
        ),
        sa.CheckConstraint(
            "state = 'available' OR state = 'delivering' OR state = 'retryable' OR state = 'delivered' OR "
            "state = 'discarded'",
            name="ck_deliveries_state",
        ),
        sa.PrimaryKeyConstraint("answer_id", "position"),
    )
    op.create_index(
        "ix_deliveries_aside",
        "deliveries",
        ["state", "due_at"],
        sqlite_where=sa.text("state IN ('delivering', 'retryable')"),
        postgresql_where=sa.text("state IN ('delivering', 'retryable')"),
    )
    op.create_index(
        "ix_deliveries_available",
        "deliveries",
        ["receiver", "client", "due_at"],
        sqlite_where=sa.text("state = 'available'"),
        postgresql_where=sa.text("state = 'available'"),
    )
    op.create_index(
        "ix_deliveries_discarded",
        "deliveries",
        ["discarded_at"],
        sqlite_where=sa.text("discarded_at IS NOT NULL"),
        postgresql_where=sa.text("discarded_at IS NOT NULL"),
    )
    op.create_table(
        "delivery_attempts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("request_id", ID, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_delivery_attempts_request",
        "delivery_attempts",
        ["request_id"],
    )
    op.create_table(
        "durations",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("model", "hour", "bucket"),
    )
    op.create_table(
        "endpoints",
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("stopped_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("url"),
    )
    op.create_table(
        "lane_pauses",
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=False),
        sa.Column("probe_at", sa.BigInteger(), nullable=False),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("by_operator", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("lane"),
    )
    op.create_table(
        "parked_receivers",
        sa.Column("receiver", sa.String(), nullable=False),
        sa.Column("parked_until", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("receiver"),
    )
    op.create_table(
        "refusals",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("count", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("model", "status"),
    )
    op.create_table(
        "usage",
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("list_price", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("gateway_key", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("processing", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("day", "client", "account", "gateway_key", "model", "processing"),
    )
    op.create_table(
        "usage_entries",
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("list_price", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("gateway_key", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("processing", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    for table in (
        "deliveries",
        "delivery_attempts",
        "durations",
        "endpoints",
        "lane_pauses",
        "parked_receivers",
        "refusals",
        "usage",
        "usage_entries",
    ):
        op.drop_table(table)
