"""How often an operator has had a request run again, which the ids of its deliveries tell."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("requests", sa.Column("retries", sa.SmallInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("requests", "retries")
