"""The ledger in SQL: what each client used of each model on each day."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from carpool_worker.costs import DOLLAR, Price, Tokens
from carpool_worker.models import UsageRow

usage = UsageRow.__table__  # type: ignore[attr-defined]


@dataclass
class Used:
    """What one client used of one model on one day (UTC); grows answer by answer."""

    day: str
    client: str
    model: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    unpriced: int = 0
    cost: int = 0  # picodollars
    list_price: int = 0

    def add(self, tokens: Tokens, price: Price | None) -> None:
        """Count one answer."""
        self.requests += 1
        self.input_tokens += tokens.input_tokens
        self.output_tokens += tokens.output_tokens
        self.cache_write_tokens += tokens.cache_write_tokens
        self.cache_read_tokens += tokens.cache_read_tokens
        if price is None:
            self.unpriced += 1
        else:
            self.cost += price.cost
            self.list_price += price.list_price


def add(connection: sa.Connection, used: Iterable[Used]) -> None:
    """Add to the ledger; rows are written in one order, so that two collectors can't deadlock."""
    for row in sorted(used, key=lambda row: (row.day, row.client, row.model)):
        connection.execute(_upsert(connection, row))


def _upsert(connection: sa.Connection, row: Used) -> sa.Executable:
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgres_insert

        insert = postgres_insert(usage)
    else:
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        insert = sqlite_insert(usage)  # type: ignore[assignment]
    counted = [column for column in usage.c if not column.primary_key]
    dollars = {"cost": Decimal(row.cost) / DOLLAR, "list_price": Decimal(row.list_price) / DOLLAR}
    return insert.values(**vars(row) | dollars).on_conflict_do_update(
        index_elements=["day", "client", "model"],
        set_={column.name: column + insert.excluded[column.name] for column in counted},
    )
