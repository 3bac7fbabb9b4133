"""SQL about warnings of budgets: each is made once, and its webhook is tried until it is taken."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal

import sqlalchemy as sa

from carpool_worker.models import BudgetWarning
from carpool_worker.models.tables import budget_warnings
from carpool_worker.policies.budget_warnings import BudgetShare
from carpool_worker.store.upserts import insert_missing
from carpool_worker.units import DOLLAR, Milliseconds

ROW = budget_warnings.c
MOST_DUE = 50


def known(connection: sa.Connection, periods: Collection[str]) -> set[tuple[str, str, int]]:
    """Return the warnings of these periods, as key, period and percent."""
    found = sa.select(ROW.gateway_key, ROW.period, ROW.percent).where(ROW.period.in_(periods))
    return {(key, period, percent) for key, period, percent in connection.execute(found)}


def add(
    connection: sa.Connection, shares: Sequence[BudgetShare], at: Milliseconds, *, is_sent: bool
) -> list[BudgetShare]:
    """Insert warnings; return those that no other process has inserted. Their webhooks are due at once, if any."""
    added = []
    for share in shares:
        row = share._asdict() | {
            "budget": Decimal(share.budget) / DOLLAR,
            "used": Decimal(share.used) / DOLLAR,
            "warned_at": at,
            "due_at": at if is_sent else None,
        }
        if insert_missing(connection, budget_warnings, [row]):
            added.append(share)
    return added


def claim(connection: sa.Connection, at: Milliseconds, until: Milliseconds) -> list[BudgetWarning]:
    """Return warnings whose webhooks are due, oldest first; until then no other process gets them."""
    due = sa.select(budget_warnings).where(ROW.due_at <= at).order_by(ROW.due_at, ROW.gateway_key)
    locked = due.limit(MOST_DUE).with_for_update(skip_locked=True)
    found = [BudgetWarning(**row._mapping) for row in connection.execute(locked)]
    for one in found:
        record(connection, one, until)
    return found


def record(
    connection: sa.Connection,
    warning: BudgetWarning,
    due_at: Milliseconds | None,
    attempts: int | None = None,
) -> None:
    """Set when a warning's webhook is due next (None: never), and how often it was tried."""
    this = sa.update(budget_warnings).where(
        ROW.gateway_key == warning.gateway_key,
        ROW.period == warning.period,
        ROW.percent == warning.percent,
    )
    tried = {} if attempts is None else {"attempts": attempts}
    connection.execute(this.values(due_at=due_at, **tried))
