"""Cancellation, paused lanes, failing endpoints, and times of pruning.

A downgrade drops what the older tables cannot express: cancel commands that are not applied yet, paused lanes, failing
endpoints, how often each delivery was claimed, and which batches were pruned.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CANCEL_REQUESTED = sa.text("cancel_requested_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("batches", sa.Column("params_pruned_at", sa.BigInteger(), nullable=True))
    op.add_column("batches", sa.Column("answers_pruned_at", sa.BigInteger(), nullable=True))
    for content in ("params", "answers"):
        kept = sa.text(f"{content}_pruned_at IS NULL")
        name = f"ix_batches_{content}_kept"
        op.create_index(name, "batches", ["opened_at"], sqlite_where=kept, postgresql_where=kept)
    op.add_column("batches", sa.Column("cursor_at", sa.BigInteger(), nullable=True))
    op.add_column("batches", sa.Column("sought_at", sa.BigInteger(), nullable=True))
    op.add_column("requests", sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_requests_cancel_requested",
        "requests",
        ["batch_id"],
        unique=False,
        sqlite_where=CANCEL_REQUESTED,
        postgresql_where=CANCEL_REQUESTED,
    )
    op.create_table(
        "cancellations",
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "client"),
    )
    op.create_table(
        "lane_pauses",
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=False),
        sa.Column("probe_at", sa.BigInteger(), nullable=False),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("by_operator", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("lane"),
    )
    op.add_column("deliveries", sa.Column("claims", sa.Integer(), nullable=False, server_default="0"))
    discarded = sa.text("discarded_at IS NOT NULL")
    op.create_index(
        "ix_deliveries_discarded",
        "deliveries",
        ["discarded_at"],
        sqlite_where=discarded,
        postgresql_where=discarded,
    )
    with op.batch_alter_table("endpoints") as endpoints:
        endpoints.add_column(sa.Column("failing_since", sa.BigInteger(), nullable=True))
        endpoints.alter_column("stopped_at", existing_type=sa.BigInteger(), nullable=True)
        endpoints.alter_column("reason", existing_type=sa.String(), nullable=True)


def downgrade() -> None:
    op.execute("DELETE FROM endpoints WHERE stopped_at IS NULL")
    op.execute("UPDATE endpoints SET reason = 'stopped' WHERE reason IS NULL")
    with op.batch_alter_table("endpoints") as endpoints:
        endpoints.alter_column("reason", existing_type=sa.String(), nullable=False)
        endpoints.alter_column("stopped_at", existing_type=sa.BigInteger(), nullable=False)
        endpoints.drop_column("failing_since")
    op.drop_index("ix_deliveries_discarded", "deliveries")
    op.drop_column("deliveries", "claims")
    op.drop_table("lane_pauses")
    op.drop_table("cancellations")
    op.drop_index("ix_requests_cancel_requested", "requests")
    op.drop_column("requests", "cancel_requested_at")
    op.drop_index("ix_batches_answers_kept", "batches")
    op.drop_index("ix_batches_params_kept", "batches")
    op.drop_column("batches", "sought_at")
    op.drop_column("batches", "cursor_at")
    op.drop_column("batches", "answers_pruned_at")
    op.drop_column("batches", "params_pruned_at")
