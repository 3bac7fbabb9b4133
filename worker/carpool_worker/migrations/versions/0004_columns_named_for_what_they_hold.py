"""Two columns of `batches` get names that say what they contain; their values stay."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

RENAMED = {"strangers": "disowned_ids", "sought_at": "search_started_at"}


def upgrade() -> None:
    for before, after in RENAMED.items():
        op.execute(f"ALTER TABLE batches RENAME COLUMN {before} TO {after}")


def downgrade() -> None:
    for before, after in RENAMED.items():
        op.execute(f"ALTER TABLE batches RENAME COLUMN {after} TO {before}")
