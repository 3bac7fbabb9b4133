"""Batches at Anthropic that no batch of ours owns: our own orphans, and those of other programs."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import big, count, identity


class UnownedBatch(SQLModel, table=True):
    """A batch at Anthropic of which is known what it is, though it is the batch of none of ours.

    With a `batch_id` it is an orphan: it has the requests of that batch, which another took the place of. Without one,
    it is a stranger: its results name no request of ours.
    """

    __tablename__ = "unowned_batches"

    claude_id: str = Field(primary_key=True)
    account: str | None = None
    headers: str = "{}"  # JSON: those that select its workspace
    batch_id: str | None = Field(default=None, sa_column=identity(nullable=True))
    request_count: int = Field(default=0, sa_column=count())
    found_at: int = Field(sa_column=count())
    is_lost: bool = Field(
        default=False, sa_column=sa.Column(sa.Boolean, nullable=False, server_default=sa.false())
    )  # no post of ours that the tables know has made this orphan
    settled_at: int | None = Field(
        default=None, sa_column=big()
    )  # when nothing was left to do about it: it is canceled, or has ended
    run_twice: int | None = Field(
        default=None, sa_column=big()
    )  # how many requests of ours an orphan's results answer; None: they were not read yet
