"""The ledger as a page shows it: the few that spent most, and the days by these and by all others together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from carpool_worker.store.usage import COLUMNS, COUNTS, UsageRow, all_rows, used

REST = "all others"
"""The name of all that are not among the few."""


@dataclass(frozen=True, kw_only=True)
class LedgerPart:
    """The days of the ledger from the first to the last, both included; or only what has these names in it."""

    first: str  # UTC, as 2026-11-22
    last: str
    client: str | None = None
    key: str | None = None  # the name of a key of the gateway
    model: str | None = None
    account: str | None = None  # "": the default one


def most_expensive(connection: sa.Connection, part: LedgerPart, by: str, limit: int) -> list[UsageRow]:
    """Return what each of the `limit` names of a dimension used that cost most, the most expensive first."""
    ledger = all_rows().c
    column = ledger[COLUMNS[by]]
    query = sa.select(column, *_sums(ledger)).where(*_within(ledger, part)).group_by(column)
    ordered = query.order_by(sa.desc("cost"), sa.desc("requests"), column).limit(limit)
    return [used(row._mapping) for row in connection.execute(ordered)]


def daily(connection: sa.Connection, part: LedgerPart, by: str, few: Collection[str]) -> list[UsageRow]:
    """Return what was used on each day, in a batch and in real time, by the few names and by REST; ordered by day."""
    ledger = all_rows().c
    column = ledger[COLUMNS[by]]
    name = sa.case((column.in_(few), column), else_=REST).label(COLUMNS[by])
    named = sa.select(ledger.day, ledger.processing, name, *(ledger[count] for count in COUNTS))
    rows = named.where(*_within(ledger, part)).subquery().c
    kept = rows.day, rows.processing, rows[COLUMNS[by]]
    query = sa.select(*kept, *_sums(rows)).group_by(*kept).order_by(*kept)
    return [used(row._mapping) for row in connection.execute(query)]


def of_models(connection: sa.Connection, part: LedgerPart) -> list[UsageRow]:
    """Return what was used of each model, in a batch and in real time."""
    ledger = all_rows().c
    kept = ledger.model, ledger.processing
    query = sa.select(*kept, *_sums(ledger)).where(*_within(ledger, part)).group_by(*kept).order_by(*kept)
    return [used(row._mapping) for row in connection.execute(query)]


def _sums(rows: Any) -> Sequence[sa.Label[Any]]:
    return [sa.type_coerce(sa.func.sum(rows[name]), sa.BigInteger).label(name) for name in COUNTS]


def _within(ledger: Any, part: LedgerPart) -> Sequence[sa.ColumnElement[bool]]:
    wanted = {name: getattr(part, name) for name in ("client", "key", "model", "account")}
    names = [ledger[COLUMNS[name]] == value for name, value in wanted.items() if value is not None]
    return [ledger.day >= part.first, ledger.day <= part.last, *names]
