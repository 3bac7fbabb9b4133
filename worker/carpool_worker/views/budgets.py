"""Budgets as the commands show them: what a client may spend, has spent and has reserved."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.formatting import exact, money
from carpool_worker.models import Request
from carpool_worker.policies.budgets import BudgetBalance, budget_of, waits_for
from carpool_worker.settings import settings
from carpool_worker.store.requests import reservations
from carpool_worker.units import DOLLAR


def balance_of(connection: sa.Connection, client: str) -> BudgetBalance | None:
    """Return how a client stands against its budget now, or None where it has none."""
    budget = budget_of(settings().budgets, client)
    return reservations.balances(connection, {client: budget}, now())[client] if budget else None


def waiting_for(connection: sa.Connection, held: Request) -> str:
    """Return what a request waits for that its client's budget had no room for."""
    balance = balance_of(connection, held.client)
    if balance is None or held.estimate is None:
        return "nothing: its client has no budget any more, and it goes next"
    return waits_for(balance, int(held.estimate * DOLLAR))


def facts(balance: BudgetBalance) -> dict[str, Any]:
    """Return a client's budget for programs; dollars as text."""
    limits = {
        period: {"limit": str(exact(limit)), "spent": str(exact(balance.spent[period]))}
        for period, limit in balance.budget.limits.items()
    }
    return limits | {"reserved": str(exact(balance.reserved)), "over": str(balance.budget.over)}


def line(balance: BudgetBalance) -> str:
    """Return a client's budget as '$5.00 a day ($1.20 spent), $0.40 reserved'."""
    limits = [
        f"{money(limit)} a {period} ({money(balance.spent[period])} spent)"
        for period, limit in balance.budget.limits.items()
    ]
    return ", ".join([*limits, f"{money(balance.reserved)} reserved"])
