"""What large tables need: sums instead of counts, indexes, and vacuuming before a fifth of a table is dead.

From here on the tables say which programs work on them (`schema_support`).
"""

import sqlalchemy as sa
from alembic import op

from carpool_worker.migrations.steps import create_index, set_storage

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

FINISHED = ("completed", "rejected", "submissions", "succeeded", "errored", "canceled", "expired")

INDEXES = {
    "ix_batches_untallied": ("batches", ["finished_at"], "tallied_at IS NULL"),
    "ix_batches_marked": ("batches", ["lane", "ended_at"], "marked != '[]'"),
    "ix_unowned_batches_strangers": ("unowned_batches", ["found_at"], "batch_id IS NULL"),
}

VACUUM = {
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_analyze_scale_factor": "0.01",
    "autovacuum_vacuum_insert_scale_factor": "0.05",
}
"""Of a table's rows: PostgreSQL's default of 0.2 lets twenty million rows die before it cleans up a hundred million."""

LARGE = ("batches", "requests", "segments", "deliveries", "delivery_attempts", "tags", "unowned_batches")
CONTENTS = ("params", "answers")
"""Their bodies are in tables of their own (TOAST), which are vacuumed by settings of their own."""

EMPTIED = {"autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "5000"}
"""For a table whose rows live for moments: the share of dead ones says nothing."""


def upgrade() -> None:
    op.create_table(
        "batch_totals",
        sa.Column("model", sa.String(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), server_default="0", nullable=False) for name in FINISHED),
        sa.PrimaryKeyConstraint("model"),
    )
    op.create_table(
        "batch_stays",
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("bound", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("batches", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("milliseconds", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("state", "bound"),
    )
    op.create_table(
        "schema_support",
        sa.Column("oldest", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("oldest"),
    )
    op.execute("INSERT INTO schema_support (oldest) VALUES ('0002')")
    op.add_column("batches", sa.Column("tallied_at", sa.BigInteger(), nullable=True))
    for table in LARGE:
        set_storage(table, VACUUM)
    for table in CONTENTS:
        set_storage(table, VACUUM | {"toast.autovacuum_vacuum_scale_factor": "0.01"})
    set_storage("usage_entries", EMPTIED)
    for name, (table, columns, where) in INDEXES.items():
        create_index(name, table, columns, where)


def downgrade() -> None:
    for name, (table, _, _) in INDEXES.items():
        op.drop_index(name, table_name=table)
    for table in (*LARGE, *CONTENTS, "usage_entries"):
        set_storage(table, dict.fromkeys(VACUUM | EMPTIED))
    for table in CONTENTS:
        set_storage(table, {"toast.autovacuum_vacuum_scale_factor": None})
    op.drop_column("batches", "tallied_at")
    for table in ("schema_support", "batch_stays", "batch_totals"):
        op.drop_table(table)
