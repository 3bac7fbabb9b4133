"""Durations: how long batches took, by model and hour of the day, from which polls and deadlines are planned."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel


class BatchDuration(SQLModel, table=True):
    """One bucket of a histogram of how long a model's batches took that were posted in an hour of the day (UTC)."""

    __tablename__ = "durations"

    model: str = Field(primary_key=True)
    hour: int = Field(primary_key=True)  # 0 to 23
    bucket: int = Field(primary_key=True)  # see policies/durations.py
    weight: float = Field(sa_column=sa.Column(sa.Double, nullable=False))
