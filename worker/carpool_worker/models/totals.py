"""Sums over the batches that have finished, so that nobody counts all that ever were; and what the tables
need for themselves.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import count, identity


class BatchTotal(SQLModel, table=True):
    """The finished batches of a model: how many, and the sums of what they say. Never pruned."""

    __tablename__ = "batch_totals"

    model: str = Field(primary_key=True)
    completed: int = Field(default=0, sa_column=count())
    rejected: int = Field(default=0, sa_column=count())
    submissions: int = Field(default=0, sa_column=count())
    succeeded: int = Field(default=0, sa_column=count())
    errored: int = Field(default=0, sa_column=count())
    canceled: int = Field(default=0, sa_column=count())
    expired: int = Field(default=0, sa_column=count())


class BatchStay(SQLModel, table=True):
    """How many finished batches were in a state for up to `bound` seconds, and longer than the next lower bound."""

    __tablename__ = "batch_stays"

    state: str = Field(primary_key=True, max_length=16)
    bound: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    batches: int = Field(default=0, sa_column=count())
    milliseconds: int = Field(default=0, sa_column=count())


class PrunerPosition(SQLModel, table=True):
    """How far a walk over a table has come, of which each run of the pruner looks at a part."""

    __tablename__ = "pruner_positions"

    walk: str = Field(primary_key=True, max_length=16)
    last: str = Field(sa_column=identity())


class SchemaSupport(SQLModel, table=True):
    """One row: the oldest revision of the tables whose programs work on these. Migrations write it."""

    __tablename__ = "schema_support"

    oldest: str = Field(primary_key=True, max_length=32)
