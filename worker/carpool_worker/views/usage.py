"""Usage: what was used, what it cost and saved, summed by client, key, model, account or day; values, JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from carpool_worker.formatting import exact
from carpool_worker.policies.accounts import shown
from carpool_worker.store import usage
from carpool_worker.store.usage import UsageRow

DIMENSIONS = usage.DIMENSIONS
TOKENS = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens")
MONEY = ("cost", "list_price", "saved")
MEASURES = ("requests", *TOKENS, *MONEY)

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a text begins with that spreadsheets take for a formula."""


@dataclass(frozen=True, kw_only=True)
class UsageView:
    """A sum of the ledger; dimensions that it is not summed by are empty. Money in dollars, None where it is unknown.

    `unpriced` of its requests have no known price: amounts include what a budget had reserved for them.
    """

    client: str = ""
    key: str = ""  # the name of a key of the gateway
    model: str = ""
    account: str = ""  # at Anthropic
    processing: str = ""  # "batch", or "real_time": at the full price
    day: str = ""  # UTC, as 2026-11-22
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    unpriced: int = 0
    cost: Decimal | None = None
    list_price: Decimal | None = None
    saved: Decimal | None = None

    @property
    def prompt_tokens(self) -> int:
        """Tokens in, cached or not."""
        return self.input_tokens + self.cache_write_tokens + self.cache_read_tokens

    @property
    def hit_rate(self) -> float | None:
        """The share of the tokens in that came from the cache, from 0 to 1; None without any."""
        return self.cache_read_tokens / self.prompt_tokens if self.prompt_tokens else None


def usage_view(row: UsageRow, by: Sequence[str] = ()) -> UsageView:
    """Return a sum of the ledger as a view; `by` is what it is summed by."""
    counts = {
        name: getattr(row, name)
        for name in ("client", "model", "processing", "day", "requests", *TOKENS, "unpriced")
    }
    counts |= {"key": row.gateway_key, "account": shown(row.account) if "account" in by else ""}
    if not row.is_priced:
        return UsageView(**counts)
    return UsageView(**counts, cost=exact(row.cost), list_price=exact(row.list_price), saved=exact(row.saved))


def totals(
    connection: sa.Connection,
    by: Sequence[str],
    since: str | None = None,
    until: str | None = None,
    client: str | None = None,
    key: str | None = None,
) -> list[UsageView]:
    """Return what was used from day `since` to day `until`, both included, summed by some of DIMENSIONS.

    Ordered by day if they are summed by it, then most expensive first.
    """
    return [usage_view(row, by) for row in usage.totals(connection, by, since, until, client, key)]


def together(rows: Sequence[UsageView]) -> UsageView:
    """Return the sum of these rows; an amount is unknown where it is unknown in every row."""
    counts = {name: sum(getattr(row, name) for row in rows) for name in ("requests", *TOKENS, "unpriced")}
    known = [row for row in rows if row.cost is not None]
    if rows and not known:
        return UsageView(**counts)
    return UsageView(
        **counts,
        cost=sum((row.cost or Decimal(0) for row in known), Decimal(0)),
        list_price=sum((row.list_price or Decimal(0) for row in known), Decimal(0)),
        saved=sum((row.saved or Decimal(0) for row in known), Decimal(0)),
    )


def records(rows: Sequence[UsageView], by: Sequence[str]) -> list[dict[str, Any]]:
    """Return what programs read of each row: the dimensions, then MEASURES."""
    return [_record(row, by) for row in rows]


def to_csv(rows: Sequence[UsageView], by: Sequence[str], *, decimal_comma: bool = False) -> str:
    """Return CSV (RFC 4180) with a line of names: the dimensions, then MEASURES; an unknown amount is empty.

    With `decimal_comma` it is as spreadsheets of most European languages expect it: semicolons, and commas in numbers.
    A text that a spreadsheet would take for a formula gets an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";" if decimal_comma else ",", lineterminator="\r\n")
    writer.writerow([*by, *MEASURES])
    for record in records(rows, by):
        writer.writerow([_cell(value, decimal_comma) for value in record.values()])
    return text.getvalue()


def _cell(value: Any, decimal_comma: bool) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}".replace(".", ",") if decimal_comma else f"{value:f}"
    said = "" if value is None else str(value)
    return f"'{said}" if said.startswith(FORMULA) else said


def _record(row: UsageView, by: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in (*by, *MEASURES)}
