"""Batches that clients make at the gateway."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ID = sa.LargeBinary(16).with_variant(postgresql.UUID(), "postgresql")
COUNTS = ("processing", "succeeded", "errored", "canceled", "expired", "ends")

TIMES = ("cancel_initiated_at", "ended_at", "lapsed_at", "archived_at")
SUMS = ("cost", "list_price", "request_count")

INDEXES = {
    "ix_client_batches_client": (["client", "id"], None, False),
    "ix_client_batches_unended": (["expires_at"], "ended_at IS NULL", False),
    "ix_client_batches_unarchived": (["created_at"], "archived_at IS NULL", False),
    "uq_client_batches_key": (["client", "idempotency_key"], "idempotency_key IS NOT NULL", True),
}


def upgrade() -> None:
    op.create_table(
        "client_batches",
        sa.Column("id", ID, nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("created_at", "expires_at")),
        *(sa.Column(name, sa.BigInteger()) for name in TIMES),
        *(sa.Column(name, sa.BigInteger(), server_default="0", nullable=False) for name in SUMS),
        *(sa.Column(name, sa.Integer(), server_default="0", nullable=False) for name in COUNTS),
        sa.Column("is_retry", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("gateway_key", sa.String()),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        *(sa.Column(name, sa.String()) for name in ("idempotency_key", "callback", "origin")),
        sa.Column("segments", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "processing + succeeded + errored + canceled + expired = request_count",
            name="ck_client_batches_counts",
        ),
        sa.CheckConstraint("(processing = 0) = (ended_at IS NOT NULL)", name="ck_client_batches_ended"),
        sa.PrimaryKeyConstraint("id"),
    )
    for name, (columns, where, is_unique) in INDEXES.items():
        condition = None if where is None else sa.text(where)
        op.create_index(
            name,
            "client_batches",
            columns,
            unique=is_unique,
            sqlite_where=condition,
            postgresql_where=condition,
        )


def downgrade() -> None:
    op.drop_table("client_batches")
