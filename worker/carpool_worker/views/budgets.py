"""Budgets: what a client may spend, has spent and has reserved."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.formatting import dollars, exact
from carpool_worker.models import Request
from carpool_worker.policies.budgets import BudgetBalance, Over, budget_of, waits_for
from carpool_worker.policies.keys import GatewayKey
from carpool_worker.settings import Settings
from carpool_worker.store import gateway_keys
from carpool_worker.store.requests import reservations
from carpool_worker.units import DOLLAR
from carpool_worker.views.encoding import FLAT

FREE = "nothing: no budget limits it any longer, so it goes next"


@dataclass(frozen=True, kw_only=True)
class PeriodView:
    """What may be spent in a period, and has been; dollars."""

    limit: Decimal
    spent: Decimal


@dataclass(frozen=True, kw_only=True)
class BudgetView:
    """A budget for a day, a month or both, and what is reserved for answers to come; dollars."""

    periods: Mapping[str, PeriodView] = field(metadata=FLAT)  # by `day` and `month`
    reserved: Decimal
    over: Over

    def __str__(self) -> str:
        limits = [
            f"{dollars(one.limit)} a {period} ({dollars(one.spent)} spent)"
            for period, one in self.periods.items()
        ]
        return ", ".join([*limits, f"{dollars(self.reserved)} reserved"])


def budget(connection: sa.Connection, settings: Settings, client: str) -> BudgetView | None:
    """Return a client's budget and what is left of it now, or None if it has none."""
    balance = _balance(connection, settings, client)
    return None if balance is None else _view(balance)


def all_budgets(connection: sa.Connection, settings: Settings) -> dict[str, BudgetView]:
    """Return the budgets of the clients that the settings name, by client, and what is left of each now."""
    named = {client: one for client in settings.budgets if (one := budget_of(settings.budgets, client))}
    found = reservations.balances(connection, named, now()) if named else {}
    return {client: _view(balance) for client, balance in found.items()}


def used_up(budget: BudgetView) -> bool:
    """Return whether nothing is left of it."""
    return left(budget) <= 0


def waiting_for(
    connection: sa.Connection, settings: Settings, held: Request, gateway_key: str | None = None
) -> str:
    """Return what a request waits for when its client's budget, or its key's, has no room for it."""
    if held.estimate is None:
        return FREE
    estimate = int(held.estimate * DOLLAR)
    keys = gateway_keys.with_budgets(connection, [gateway_key] if gateway_key else [])
    for balance in reservations.key_balances(connection, keys, now()).values():
        if estimate > balance.room:
            return waits_for(balance, estimate, f"the key {gateway_key}'s")
    own = _balance(connection, settings, held.client)
    return FREE if own is None else waits_for(own, estimate)


def of_key(connection: sa.Connection, key: GatewayKey) -> BudgetView | None:
    """Return the budget of a key and what is left of it now, or None if it has none."""
    balances = reservations.key_balances(connection, [key] if key.budget else [], now())
    return _view(balances[key.name]) if balances else None


def of_clients(
    connection: sa.Connection, settings: Settings, names: Collection[str]
) -> Mapping[str, BudgetView]:
    """Return the budgets of those of these clients that have one, and what is left of each now."""
    given = {name: own for name in names if (own := budget_of(settings.budgets, name))}
    balances = reservations.balances(connection, given, now()) if given else {}
    return {name: _view(balance) for name, balance in balances.items()}


def of_keys(connection: sa.Connection, client: str) -> Mapping[str, BudgetView]:
    """Return the budgets of the keys of a client, by the key's name; only keys that have one."""
    balances = reservations.key_balances(connection, gateway_keys.all_with_budgets(connection, client), now())
    return {name: _view(balance) for name, balance in balances.items()}


def left(budget: BudgetView) -> Decimal:
    """Return what may still be reserved, in dollars; below 0 if answers cost more than estimated."""
    return min(one.limit - one.spent for one in budget.periods.values()) - budget.reserved


def _balance(connection: sa.Connection, settings: Settings, client: str) -> BudgetBalance | None:
    own = budget_of(settings.budgets, client)
    return reservations.balances(connection, {client: own}, now())[client] if own else None


def _view(balance: BudgetBalance) -> BudgetView:
    periods = {
        period: PeriodView(limit=exact(limit), spent=exact(balance.spent[period]))
        for period, limit in balance.budget.limits.items()
    }
    return BudgetView(periods=periods, reserved=exact(balance.reserved), over=balance.budget.over)
