"""Budgets as the commands show them: what a client may spend, has spent and has reserved."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.formatting import exact, money
from carpool_worker.models import Request
from carpool_worker.policies.budgets import Standing, budget_of, waits_for
from carpool_worker.settings import settings
from carpool_worker.store.requests import reservations
from carpool_worker.units import DOLLAR


def standing_of(connection: sa.Connection, client: str) -> Standing | None:
    """Return how a client stands against its budget now, or None where it has none."""
    budget = budget_of(settings().budgets, client)
    return reservations.standings(connection, {client: budget}, now())[client] if budget else None


def waiting_for(connection: sa.Connection, held: Request) -> str:
    """Return what a request waits for that its client's budget had no room for."""
    standing = standing_of(connection, held.client)
    if standing is None or held.estimate is None:
        return "nothing: its client has no budget any more, and it goes next"
    return waits_for(standing, int(held.estimate * DOLLAR))


def facts(standing: Standing) -> dict[str, Any]:
    """Return a client's budget for programs; dollars as text."""
    limits = {
        period: {"limit": str(exact(limit)), "spent": str(exact(standing.spent[period]))}
        for period, limit in standing.budget.limits.items()
    }
    return limits | {"reserved": str(exact(standing.reserved)), "over": str(standing.budget.over)}


def line(standing: Standing) -> str:
    """Return a client's budget as '$5.00 a day ($1.20 spent), $0.40 reserved'."""
    limits = [
        f"{money(limit)} a {period} ({money(standing.spent[period])} spent)"
        for period, limit in standing.budget.limits.items()
    ]
    return ", ".join([*limits, f"{money(standing.reserved)} reserved"])
