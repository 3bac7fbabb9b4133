"""Deadlines: what they may cost, the earliest of each batch, and those that a key of the gateway gives its requests."""

import sqlalchemy as sa
from alembic import op

from carpool_worker.migrations.steps import create_index

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

INDEX = "ix_requests_deadline"


def upgrade() -> None:
    op.add_column("batches", sa.Column("deadline", sa.BigInteger(), nullable=True))
    op.add_column("requests", sa.Column("deadline_policy", sa.String(), nullable=True))
    op.add_column("gateway_keys", sa.Column("deadline", sa.Integer(), nullable=True))
    op.add_column("gateway_keys", sa.Column("deadline_policy", sa.String(), nullable=True))
    columns = ["batch_id", "deadline", "deadline_policy"]
    create_index(INDEX, "requests", columns, "deadline IS NOT NULL AND client_batch IS NULL")


def downgrade() -> None:
    op.drop_index(INDEX, table_name="requests")
    for table, column in (
        ("gateway_keys", "deadline_policy"),
        ("gateway_keys", "deadline"),
        ("requests", "deadline_policy"),
        ("batches", "deadline"),
    ):
        op.drop_column(table, column)
