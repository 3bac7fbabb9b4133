"""SQL about the ledger: each client's usage of each model on each day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from carpool_worker.models.tables import usage
from carpool_worker.money.costs import Tokens
from carpool_worker.money.prices import Price
from carpool_worker.store.upserts import upsert
from carpool_worker.units import DOLLAR

DIMENSIONS = ("client", "model", "day")
COUNTS = (
    "requests",
    "input_tokens",
    "output_tokens",
    "cache_write_tokens",
    "cache_read_tokens",
    "unpriced",
    "cost",
    "list_price",
)


@dataclass
class UsageRow:
    """One client's usage of one model on one day (UTC), summed answer by answer."""

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
    list_price: int = 0  # picodollars

    @property
    def saved(self) -> int:
        """Picodollars saved by batching."""
        return self.list_price - self.cost

    @property
    def is_priced(self) -> bool:
        """Whether the cost of any of its answers is known, or there are none."""
        return self.unpriced < self.requests or not self.requests

    def add(self, tokens: Tokens, price: Price | None) -> None:
        """Add one answer."""
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


def add(connection: sa.Connection, used: Iterable[UsageRow]) -> None:
    """Add rows to the ledger; they are written in a fixed order, so that two collectors can't deadlock."""
    rows = sorted(used, key=lambda row: (row.day, row.client, row.model))
    upsert(connection, usage, [_stored(row) for row in rows], add=COUNTS)


def totals(
    connection: sa.Connection,
    by: Sequence[str],
    since: str | None = None,
    until: str | None = None,
    client: str | None = None,
) -> list[UsageRow]:
    """Return the usage from day `since` to day `until`, both included, summed by some of DIMENSIONS.

    The other dimensions are "" in the rows. The rows are ordered by day, then the most expensive first.
    """
    kept = [usage.c[name] for name in by]
    sums = [sa.type_coerce(sa.func.sum(usage.c[name]), sa.BigInteger).label(name) for name in COUNTS]
    bounds = (
        usage.c.day >= since if since else None,
        usage.c.day <= until if until else None,
        usage.c.client == client if client else None,
    )
    query = sa.select(*kept, *sums).where(*(bound for bound in bounds if bound is not None)).group_by(*kept)
    rows = [_used(row._mapping) for row in connection.execute(query)]
    return sorted(rows, key=lambda row: (row.day, -row.cost, row.client, row.model))


def _used(row: sa.RowMapping) -> UsageRow:
    named: dict[str, Any] = dict.fromkeys(DIMENSIONS, "") | dict(row)
    return UsageRow(**named | {name: int(row[name]) for name in COUNTS})  # PostgreSQL sums into numeric


def _stored(row: UsageRow) -> dict[str, Any]:
    return vars(row) | {"cost": Decimal(row.cost) / DOLLAR, "list_price": Decimal(row.list_price) / DOLLAR}
