"""How many requests of ours the results of an orphan answer, as the audit has read them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("unowned_batches", sa.Column("run_twice", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("unowned_batches", "run_twice")
