"""Usage: the daily sums on which bills and budgets are based."""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import Dollars, count


class DailyUsage(SQLModel, table=True):
    """A client's usage of a model on a day (UTC), by whom and how it is billed. Never pruned."""

    __tablename__ = "usage"

    day: str = Field(primary_key=True, max_length=10)
    client: str = Field(primary_key=True)
    account: str = Field(primary_key=True)  # "": the default one
    gateway_key: str = Field(primary_key=True)  # "": none
    model: str = Field(primary_key=True)
    processing: str = Field(primary_key=True)  # "batch" or "real_time"
    requests: int = Field(default=0, sa_column=count())
    input_tokens: int = Field(default=0, sa_column=count())
    output_tokens: int = Field(default=0, sa_column=count())
    cache_write_tokens: int = Field(default=0, sa_column=count())
    cache_read_tokens: int = Field(default=0, sa_column=count())
    unpriced: int = Field(default=0, sa_column=count())  # how many of `requests` had no known price
    cost: Decimal = Field(default=Decimal(0), sa_column=sa.Column(Dollars, nullable=False))
    list_price: Decimal = Field(default=Decimal(0), sa_column=sa.Column(Dollars, nullable=False))
