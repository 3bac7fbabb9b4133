"""Calls of the Messages API, in real time."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

ID = sa.LargeBinary(16).with_variant(postgresql.UUID(), "postgresql")

STATES = ("available", "calling", "answered", "refused", "lost", "returned", "canceled")
FINAL = STATES[2:]
MONEY = ("cost", "batch_cost")
TIMES = ("lease_until", "suspected_at", "calling_at", "finished_at", "batch_billed_at")

INDEXES = {
    "ix_real_time_calls_unfinished": (["account", "deadline"], "finished_at IS NULL"),
    "ix_real_time_calls_lost": (["finished_at"], "state = 'lost'"),
}


def _one_of(states: tuple[str, ...]) -> str:
    return " OR ".join(f"state = '{state}'" for state in states)


def upgrade() -> None:
    op.create_table(
        "real_time_calls",
        sa.Column("request_id", ID, nullable=False),
        sa.Column("round", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("batch_id", ID),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("client", "account", "model", "lane")),
        *(
            sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
            for name in ("deadline", "queued_at", "due_at")
        ),
        sa.Column("estimate", sa.BigInteger(), nullable=False),
        sa.Column("added", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("submissions", sa.Integer(), server_default="0", nullable=False),
        *(sa.Column(name, sa.String()) for name in ("caller", "claude_id", "last_error")),
        *(sa.Column(name, sa.BigInteger()) for name in (*TIMES, *MONEY)),
        sa.CheckConstraint(_one_of(STATES), name="ck_real_time_calls_state"),
        sa.CheckConstraint(
            f"({_one_of(FINAL)}) = (finished_at IS NOT NULL)", name="ck_real_time_calls_finished_at"
        ),
        sa.PrimaryKeyConstraint("request_id", "round"),
        sqlite_with_rowid=False,
    )
    for name, (columns, where) in INDEXES.items():
        condition = sa.text(where)
        op.create_index(name, "real_time_calls", columns, sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    op.drop_table("real_time_calls")
