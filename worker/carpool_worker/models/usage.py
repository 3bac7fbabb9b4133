"""Usage: the daily sums on which bills and budgets are based."""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import Dollars


class _Used(SQLModel):
    """Who used what, how it is billed, and how much."""

    requests: int = Field(default=0, sa_type=sa.BigInteger)
    input_tokens: int = Field(default=0, sa_type=sa.BigInteger)
    output_tokens: int = Field(default=0, sa_type=sa.BigInteger)
    cache_write_tokens: int = Field(default=0, sa_type=sa.BigInteger)
    cache_read_tokens: int = Field(default=0, sa_type=sa.BigInteger)
    unpriced: int = Field(default=0, sa_type=sa.BigInteger)  # how many of `requests` had no known price
    cost: Decimal = Field(default=Decimal(0), sa_type=Dollars)
    list_price: Decimal = Field(default=Decimal(0), sa_type=Dollars)


class DailyUsage(_Used, table=True):
    """A client's usage of a model on a day (UTC), by whom and how it is billed. Never pruned."""

    __tablename__ = "usage"

    day: str = Field(primary_key=True, max_length=10)
    client: str = Field(primary_key=True)
    account: str = Field(primary_key=True)  # "": the default one
    gateway_key: str = Field(primary_key=True)  # "": none
    model: str = Field(primary_key=True)
    processing: str = Field(primary_key=True)  # "batch" or "real_time"


class UsageEntry(_Used, table=True):
    """Usage that is not in `usage` yet. Collectors only append, so that none waits for another's row."""

    __tablename__ = "usage_entries"

    id: int | None = Field(
        default=None,
        sa_column=sa.Column(sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    )
    day: str = Field(max_length=10)
    client: str
    account: str
    gateway_key: str
    model: str
    processing: str
