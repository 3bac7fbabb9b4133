"""Turns of clients: which clients the requests of a sealed batch are of, and until when each has been served."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("clients", sa.String()))
    op.create_table(
        "client_turns",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("served", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "client"),
    )


def downgrade() -> None:
    op.drop_table("client_turns")
    op.drop_column("batches", "clients")
