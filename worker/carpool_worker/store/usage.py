"""SQL about the ledger: each client's usage of each model on each day.

Collectors append entries; one agent at a time rolls them up into the daily rows. Whoever reads sums both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from carpool_worker.models.tables import usage, usage_entries
from carpool_worker.money.costs import Tokens
from carpool_worker.money.prices import Price
from carpool_worker.store.upserts import upsert
from carpool_worker.units import DOLLAR

DIMENSIONS = ("client", "key", "model", "account", "processing", "day")
COLUMNS = {name: name for name in DIMENSIONS} | {"key": "gateway_key"}
"""What usage is summed by, and the columns that have it."""

KEY = ("day", "client", "account", "gateway_key", "model", "processing")
IN_BATCH, REAL_TIME = "batch", "real_time"
"""How an answer was made: at the price of a batch, or at the full one."""

ROLLED_UP = 5_000
"""Entries rolled up in one transaction."""

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
    account: str = ""
    gateway_key: str = ""
    processing: str = IN_BATCH

    @property
    def saved(self) -> int:
        """Picodollars saved by batching."""
        return self.list_price - self.cost

    @property
    def is_priced(self) -> bool:
        """Whether the cost of any of its answers is known, or there are none."""
        return self.unpriced < self.requests or not self.requests

    def add(self, tokens: Tokens, price: Price | None, reserved: int = 0) -> None:
        """Add one answer; one without a price costs what was `reserved` for it from a budget, in picodollars."""
        self.requests += 1
        self.input_tokens += tokens.input_tokens
        self.output_tokens += tokens.output_tokens
        self.cache_write_tokens += tokens.cache_write_tokens
        self.cache_read_tokens += tokens.cache_read_tokens
        if price is None:
            self.unpriced += 1
            self.cost += reserved
            self.list_price += reserved
        else:
            self.cost += price.cost
            self.list_price += price.list_price


def add(connection: sa.Connection, used: Iterable[UsageRow]) -> None:
    """Append to the ledger."""
    if rows := [_stored(row) for row in used]:
        connection.execute(sa.insert(usage_entries), rows)


def roll_up(connection: sa.Connection) -> int:
    """Add the oldest entries to the daily rows, and delete them; return how many they were.

    The task `carpool.stage` calls it, one at a time: two would wait for each other, but add no entry twice.
    """
    columns = [usage_entries.c[name] for name in (*KEY, *COUNTS)]
    oldest = sa.select(usage_entries.c.id, *columns).order_by(usage_entries.c.id).limit(ROLLED_UP)
    entries = connection.execute(oldest.with_for_update()).all()
    if not entries:
        return 0
    sums: dict[tuple[str, ...], dict[str, Any]] = {}
    for _, *values in entries:
        key, counts = tuple(values[: len(KEY)]), dict(zip(COUNTS, values[len(KEY) :], strict=True))
        total = sums.setdefault(key, dict.fromkeys(COUNTS, 0))
        sums[key] = {name: total[name] + counts[name] for name in COUNTS}
    rows = [dict(zip(KEY, key, strict=True)) | total for key, total in sorted(sums.items())]
    upsert(connection, usage, rows, add=COUNTS)
    connection.execute(sa.delete(usage_entries).where(usage_entries.c.id.in_([row.id for row in entries])))
    return len(entries)


def all_rows() -> sa.Subquery:
    """Return the whole ledger as a table: the daily rows, and the entries that are not in them yet."""
    names = (*KEY, *COUNTS)
    parts = (sa.select(*(table.c[name] for name in names)) for table in (usage, usage_entries))
    return sa.union_all(*parts).subquery("ledger")


def totals(
    connection: sa.Connection,
    by: Sequence[str],
    since: str | None = None,
    until: str | None = None,
    client: str | None = None,
    key: str | None = None,
) -> list[UsageRow]:
    """Return the usage from day `since` to day `until`, both included, summed by some of DIMENSIONS.

    `key` is the name of a key of the gateway; of requests that came without one, it is "". The other dimensions are ""
    in the rows. The rows are ordered by day, then the most expensive first.
    """
    ledger = all_rows().c
    kept = [ledger[COLUMNS[name]] for name in by]
    sums = [sa.type_coerce(sa.func.sum(ledger[name]), sa.BigInteger).label(name) for name in COUNTS]
    bounds = (
        ledger.day >= since if since else None,
        ledger.day <= until if until else None,
        ledger.client == client if client else None,
        ledger.gateway_key == key if key is not None else None,
    )
    query = sa.select(*kept, *sums).where(*(bound for bound in bounds if bound is not None)).group_by(*kept)
    rows = [used(row._mapping) for row in connection.execute(query)]
    return sorted(rows, key=lambda row: (row.day, -row.cost, row.client, row.gateway_key, row.model))


def used(row: sa.RowMapping) -> UsageRow:
    """Return a sum of the ledger, as a query selected it; dimensions that it left out are ""."""
    named: dict[str, Any] = dict.fromkeys(COLUMNS.values(), "") | dict(row)
    return UsageRow(**named | {name: int(row[name]) for name in COUNTS})  # PostgreSQL sums into numeric


def _stored(row: UsageRow) -> dict[str, Any]:
    return vars(row) | {"cost": Decimal(row.cost) / DOLLAR, "list_price": Decimal(row.list_price) / DOLLAR}
