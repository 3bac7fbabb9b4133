"""The way of a request: batches, segments, requests, their params and answers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.LargeBinary(16).with_variant(postgresql.UUID(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("ids", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_answers_client",
        "answers",
        ["client", "id"],
    )
    op.create_table(
        "batches",
        sa.Column("id", ID, nullable=False),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=True),
        sa.Column("shard", sa.Integer(), server_default="0", nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("headers", sa.String(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("request_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("body_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("claude_id", sa.String(), nullable=True),
        sa.Column("parent_id", ID, nullable=True),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("submit_by", sa.BigInteger(), nullable=True),
        sa.Column("submissions", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cursor_id", sa.String(), nullable=True),
        sa.Column("cursor_at", sa.BigInteger(), nullable=True),
        sa.Column("in_doubt_at", sa.BigInteger(), nullable=True),
        sa.Column("search_started_at", sa.BigInteger(), nullable=True),
        sa.Column("disowned_ids", sa.String(), nullable=False),
        sa.Column("marked", sa.String(), nullable=True),
        sa.Column("warm_up_id", ID, nullable=True),
        sa.Column("warm_until", sa.BigInteger(), nullable=True),
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
            "(state = 'completed' OR state = 'rejected') = (finished_at IS NOT NULL)",
            name="ck_batches_finished_at",
        ),
        sa.CheckConstraint(
            "state = 'open' OR state = 'sealed' OR state = 'submitting' OR state = 'in_progress' OR "
            "state = 'canceling' OR state = 'ended' OR state = 'completed' OR state = 'rejected'",
            name="ck_batches_state",
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("claude_id"),
    )
    op.create_index(
        "ix_batches_unfinished",
        "batches",
        ["state"],
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "uq_batches_open_lane",
        "batches",
        ["lane", "shard"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "cancellations",
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "client"),
    )
    op.create_table(
        "params",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "requests",
        sa.Column("segment_id", sa.BigInteger(), nullable=False),
        sa.Column("enqueued_at", sa.BigInteger(), nullable=False),
        sa.Column("batched_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("answer_id", sa.BigInteger(), nullable=True),
        sa.Column("cost", sa.BigInteger(), nullable=True),
        sa.Column("list_price", sa.BigInteger(), nullable=True),
        sa.Column("params_bytes", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("cache_write_tokens", sa.Integer(), nullable=True),
        sa.Column("cache_read_tokens", sa.Integer(), nullable=True),
        sa.Column("position", sa.SmallInteger(), nullable=True),
        sa.Column("answer_position", sa.SmallInteger(), nullable=True),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("batch_id", ID, nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("prefix", sa.BigInteger(), nullable=True),
        sa.Column("submit_by", sa.BigInteger(), nullable=True),
        sa.Column("deadline", sa.BigInteger(), nullable=True),
        sa.Column("estimate", sa.BigInteger(), nullable=True),
        sa.Column("held_at", sa.BigInteger(), nullable=True),
        sa.Column("retry_at", sa.BigInteger(), nullable=True),
        sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("params_digest", sa.LargeBinary(), nullable=True),
        sa.Column("trace", sa.String(), nullable=True),
        sa.Column("client_batch", sa.String(), nullable=True),
        sa.Column("custom_id", sa.String(), nullable=True),
        sa.CheckConstraint(
            "(state = 'completed' OR state = 'discarded' OR state = 'canceled') = (finished_at IS NOT NULL)",
            name="ck_requests_finished_at",
        ),
        sa.CheckConstraint(
            "state = 'batched' OR state = 'retryable' OR state = 'completed' OR state = 'discarded' OR "
            "state = 'canceled'",
            name="ck_requests_state",
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 50},
    )
    op.create_index(
        "ix_requests_batch",
        "requests",
        ["batch_id"],
    )
    op.create_index(
        "ix_requests_cancel_requested",
        "requests",
        ["batch_id"],
        sqlite_where=sa.text("cancel_requested_at IS NOT NULL"),
        postgresql_where=sa.text("cancel_requested_at IS NOT NULL"),
    )
    op.create_index(
        "ix_requests_estimated",
        "requests",
        ["client", "held_at", "estimate"],
        sqlite_where=sa.text("estimate IS NOT NULL"),
        postgresql_where=sa.text("estimate IS NOT NULL"),
    )
    op.create_index(
        "ix_requests_failed",
        "requests",
        ["batch_id"],
        sqlite_where=sa.text("error IS NOT NULL"),
        postgresql_where=sa.text("error IS NOT NULL"),
    )
    op.create_index(
        "ix_requests_retryable",
        "requests",
        ["retry_at"],
        sqlite_where=sa.text("retry_at IS NOT NULL"),
        postgresql_where=sa.text("retry_at IS NOT NULL"),
    )
    op.create_table(
        "segments",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ends_after", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=True),
        sa.Column("gateway_key", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("headers", sa.String(), nullable=False),
        sa.Column("callback", sa.String(), nullable=True),
        sa.Column("reply_to", sa.String(), nullable=True),
        sa.Column("requests", sa.Integer(), server_default="0", nullable=False),
        sa.Column("keyed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("ids", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_segments_client",
        "segments",
        ["client", "id"],
    )
    op.create_index(
        "ix_segments_keyed",
        "segments",
        ["id"],
        sqlite_where=sa.text("keyed > 0"),
        postgresql_where=sa.text("keyed > 0"),
    )
    op.create_table(
        "tags",
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("tag", sa.String(), nullable=False),
        sa.Column("request_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("client", "tag", "request_id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_tags_request",
        "tags",
        ["request_id"],
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in ("params", "answers"):  # they are compressed already
            op.execute(f"ALTER TABLE {table} ALTER body SET STORAGE EXTERNAL")


def downgrade() -> None:
    for table in ("answers", "batches", "cancellations", "params", "requests", "segments", "tags"):
        op.drop_table(table)
