"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("headers", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.String(16),
            nullable=False,
        ),
        sa.Column("request_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("body_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("claude_id", sa.String(), nullable=True),
        sa.Column("parent_id", sa.String(32), nullable=True),
        sa.Column("submissions", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cursor_id", sa.String(), nullable=True),
        sa.Column("in_doubt_at", sa.BigInteger(), nullable=True),
        sa.Column("strangers", sa.String(), nullable=False),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("succeeded", sa.Integer(), nullable=False),
        sa.Column("errored", sa.Integer(), nullable=False),
        sa.Column("canceled", sa.Integer(), nullable=False),
        sa.Column("expired", sa.Integer(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=True),
        sa.Column("list_price", sa.BigInteger(), nullable=True),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("sealed_at", sa.BigInteger(), nullable=True),
        sa.Column("submitting_at", sa.BigInteger(), nullable=True),
        sa.Column("in_progress_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state = 'open' OR state = 'sealed' OR state = 'submitting' OR state = 'in_progress' "
            "OR state = 'canceling' OR state = 'ended' OR state = 'completed' OR state = 'rejected'",
            name="ck_batches_state",
        ),
        sa.CheckConstraint(
            "(state = 'completed' OR state = 'rejected') = (finished_at IS NOT NULL)",
            name="ck_batches_finished_at",
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("claude_id"),
    )
    op.create_index(
        "ix_batches_unfinished",
        "batches",
        ["state"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "uq_batches_open_lane",
        "batches",
        ["lane"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )

    op.create_table(
        "deliveries",
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.String(16),
            nullable=False,
        ),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("discarded_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state = 'available' OR state = 'delivering' OR state = 'retryable' OR state = 'delivered' "
            "OR state = 'discarded'",
            name="ck_deliveries_state",
        ),
        sa.CheckConstraint(
            "(state = 'delivered') = (delivered_at IS NOT NULL)", name="ck_deliveries_delivered_at"
        ),
        sa.CheckConstraint(
            "(state = 'discarded') = (discarded_at IS NOT NULL)", name="ck_deliveries_discarded_at"
        ),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["state", "due_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('available', 'delivering', 'retryable')"),
        postgresql_where=sa.text("state IN ('available', 'delivering', 'retryable')"),
    )

    op.create_table(
        "delivery_attempts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_delivery_attempts_request", "delivery_attempts", ["request_id"], unique=False)

    op.create_table(
        "endpoints",
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("stopped_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("url"),
    )
    op.create_table(
        "params",
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_table(
        "requests",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("batch_id", sa.String(32), nullable=False),
        sa.Column(
            "state",
            sa.String(16),
            nullable=False,
        ),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("headers", sa.String(), nullable=False),
        sa.Column("callback", sa.String(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("params_bytes", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("cache_write_tokens", sa.Integer(), nullable=True),
        sa.Column("cache_read_tokens", sa.Integer(), nullable=True),
        sa.Column("cost", sa.BigInteger(), nullable=True),
        sa.Column("list_price", sa.BigInteger(), nullable=True),
        sa.Column("enqueued_at", sa.BigInteger(), nullable=False),
        sa.Column("batched_at", sa.BigInteger(), nullable=False),
        sa.Column("retry_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state = 'batched' OR state = 'retryable' OR state = 'completed' OR state = 'discarded' "
            "OR state = 'canceled'",
            name="ck_requests_state",
        ),
        sa.CheckConstraint(
            "(state = 'completed' OR state = 'discarded' OR state = 'canceled') = (finished_at IS NOT NULL)",
            name="ck_requests_finished_at",
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_requests_batch", "requests", ["batch_id"], unique=False)
    op.create_index(
        "ix_requests_retryable",
        "requests",
        ["retry_at"],
        unique=False,
        sqlite_where=sa.text("retry_at IS NOT NULL"),
        postgresql_where=sa.text("retry_at IS NOT NULL"),
    )

    op.create_table(
        "usage",
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unpriced", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("list_price", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "client", "model"),
    )

    if op.get_bind().dialect.name == "postgresql":
        # A prompt or an answer of up to a page stays in its row: as it is written once, read once and dropped,
        # compressing it and moving it out would cost more than it saves.
        op.execute("ALTER TABLE params SET (toast_tuple_target = 8160)")
        op.execute("ALTER TABLE answers SET (toast_tuple_target = 8160)")
        # Each page has room for the one update that every request gets, which then does not touch the indexes.
        op.execute("ALTER TABLE requests SET (fillfactor = 60)")


def downgrade() -> None:
    for table in (
        "usage",
        "requests",
        "params",
        "endpoints",
        "delivery_attempts",
        "deliveries",
        "batches",
        "answers",
    ):
        op.drop_table(table)
