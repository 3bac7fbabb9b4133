"""When a batch's results lacked requests, and that a batch was canceled at Anthropic's console."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("incomplete_at", "stopped_at"):
        op.add_column("batches", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("lane_pauses", sa.Column("canceled_id", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("lane_pauses", "canceled_id")
    for name in ("incomplete_at", "stopped_at"):
        op.drop_column("batches", name)
