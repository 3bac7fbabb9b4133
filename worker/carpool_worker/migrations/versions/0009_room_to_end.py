"""More room in PostgreSQL's pages of requests: all of a page's requests can end in it, and no index is written."""

from carpool_worker.migrations.steps import set_storage

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

FILLFACTOR, BEFORE = "40", "50"


def upgrade() -> None:
    set_storage("requests", {"fillfactor": FILLFACTOR})


def downgrade() -> None:
    set_storage("requests", {"fillfactor": BEFORE})
