"""What it takes to prune the ledger: the segments with requests that have no key, and how far the pruner has come.

And what commands look batches up by: when they finished, and the batch that they are a part of.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from carpool_worker.migrations.steps import create_index

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ID = sa.LargeBinary(16).with_variant(postgresql.UUID(), "postgresql")

INDEXES = {
    "ix_segments_unkeyed": ("segments", ["id"], "requests > keyed"),
    "ix_batches_finished": ("batches", ["finished_at"], "finished_at IS NOT NULL"),
    "ix_batches_parent": ("batches", ["parent_id"], "parent_id IS NOT NULL"),
}


def upgrade() -> None:
    op.create_table(
        "pruner_positions",
        sa.Column("walk", sa.String(16), nullable=False),
        sa.Column("last", ID, nullable=False),
        sa.PrimaryKeyConstraint("walk"),
    )
    for name, (table, columns, where) in INDEXES.items():
        create_index(name, table, columns, where)


def downgrade() -> None:
    for name, (table, _, _) in INDEXES.items():
        op.drop_index(name, table_name=table)
    op.drop_table("pruner_positions")
