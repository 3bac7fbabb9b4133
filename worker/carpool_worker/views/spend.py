"""What was spent, as a page shows it: by day and by whom, the month and where it goes, and what was saved and how."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal

import sqlalchemy as sa

from carpool_worker.formatting import exact
from carpool_worker.money.prices import model_prices
from carpool_worker.policies.accounts import DEFAULT
from carpool_worker.policies.budgets import Budget, budget_of
from carpool_worker.prompt_cache.savings import cache_rates
from carpool_worker.settings import Settings
from carpool_worker.store import gateway_keys
from carpool_worker.store.reports import spend
from carpool_worker.store.reports.spend import LedgerPart
from carpool_worker.store.usage import IN_BATCH, REAL_TIME, UsageRow
from carpool_worker.views.forecast import DAYS_LOOKED_AT, Forecast, forecast
from carpool_worker.views.usage import UsageView, together, usage_view
from carpool_worker.views.usage_chart import MOST_GROUPS

BY = ("client", "model", "key", "account")
"""What the days are stacked by."""

TOP = 10


@dataclass(frozen=True, kw_only=True)
class SpendFilter:
    """Which days, both included, and whose; the account is named as people see it."""

    first: date
    last: date
    client: str | None = None
    key: str | None = None
    model: str | None = None
    account: str | None = None

    def part(self, first: date) -> LedgerPart:
        """Return these names in the ledger, from that day on."""
        account = "" if self.account == DEFAULT else self.account
        days = {"first": first.isoformat(), "last": self.last.isoformat()}
        return LedgerPart(**days, client=self.client, key=self.key, model=self.model, account=account)


@dataclass(frozen=True, kw_only=True)
class CacheView:
    """What the prompt cache did: tokens of prompts, and the dollars that it saved; None where no price is known.

    The ledger doesn't say for how long a token was written: each counts as written for an hour, the dearest, so it
    saved that much at least. It is below 0 where more was written than it paid for.
    """

    read_tokens: int
    written_tokens: int
    hit_rate: float | None  # of the tokens of all prompts, from 0 to 1
    saved: Decimal | None


@dataclass(frozen=True, kw_only=True)
class SpendView:
    """What was spent on some days.

    `days` also has those that the forecast is made from, each by its `top` few and by all others together, in batches
    and in real time. The month is that of the last day; None unless that is today.
    """

    days: Sequence[UsageView]
    top: Sequence[UsageView]
    total: UsageView
    in_batch: UsageView
    real_time: UsageView
    cache: CacheView
    month: Forecast | None
    budget: Budget | None  # of the client, or of the key, that is asked about, or of the only client

    def shown(self, wanted: SpendFilter) -> list[UsageView]:
        """Return the days that are asked about."""
        return [row for row in self.days if row.day >= wanted.first.isoformat()]


def spent(
    connection: sa.Connection, settings: Settings, wanted: SpendFilter, by: str, today: date
) -> SpendView:
    """Return what was spent on the days that are asked about, by a dimension of BY."""
    since = min(wanted.first, wanted.last.replace(day=1), wanted.last - timedelta(DAYS_LOOKED_AT))
    part = wanted.part(wanted.first)
    top = spend.most_expensive(connection, part, by, TOP)
    few = [_name(row, by) for row in top[:MOST_GROUPS]]
    dimensions = ("day", "processing", by)
    days = [_named(row, dimensions) for row in spend.daily(connection, wanted.part(since), by, few)]
    shown = [row for row in days if row.day >= part.first]
    return SpendView(
        days=days,
        top=[_named(row, (by,)) for row in top],
        total=together(shown),
        in_batch=together([row for row in shown if row.processing == IN_BATCH]),
        real_time=together([row for row in shown if row.processing == REAL_TIME]),
        cache=cache(spend.of_models(connection, part), wanted.last),
        month=forecast(_costs(days), today) if wanted.last == today else None,
        budget=_budget(connection, settings, wanted, top if by == "client" else ()),
    )


def cache(rows: Iterable[UsageRow], day: date) -> CacheView:
    """Return what the prompt cache did, at the prices of that day; each row is of one model."""
    read = written = prompts = 0
    saved, known = 0, False
    for row in rows:
        read, written = read + row.cache_read_tokens, written + row.cache_write_tokens
        prompts += row.input_tokens + row.cache_read_tokens + row.cache_write_tokens
        rates = cache_rates(model_prices(row.model, day))
        if rates is not None:
            known = True
            less = row.cache_read_tokens * (rates.plain - rates.read)
            more = row.cache_write_tokens * (rates.write - rates.plain)
            saved += (less - more) * (1 if row.processing == IN_BATCH else 2)
    return CacheView(
        read_tokens=read,
        written_tokens=written,
        hit_rate=read / prompts if prompts else None,
        saved=exact(saved) if known else None,
    )


def _named(row: UsageRow, by: Sequence[str]) -> UsageView:
    found = usage_view(row, by)
    return replace(found, key="(no key)") if "key" in by and not found.key else found


def _name(row: UsageRow, by: str) -> str:
    return {"client": row.client, "model": row.model, "key": row.gateway_key, "account": row.account}[by]


def _costs(rows: Iterable[UsageView]) -> Mapping[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        sums[row.day] += row.cost or 0
    return sums


def _budget(
    connection: sa.Connection, settings: Settings, wanted: SpendFilter, clients: Sequence[UsageRow]
) -> Budget | None:
    if wanted.model or wanted.account:
        return None
    if wanted.key:
        key = gateway_keys.get(connection, wanted.key)
        return key.budget if key else None
    client = wanted.client or (clients[0].client if len(clients) == 1 else None)
    return budget_of(settings.budgets, client) if client else None
