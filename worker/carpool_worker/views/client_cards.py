"""Clients, a card each: what of its budget is left, what waits, what it cost and what the prompt cache did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.settings import Settings
from carpool_worker.store import usage
from carpool_worker.units import Milliseconds
from carpool_worker.views import clients
from carpool_worker.views.budgets import BudgetView, of_clients
from carpool_worker.views.clients import ClientView, day_of
from carpool_worker.views.usage import UsageView, usage_view


@dataclass(frozen=True)
class ClientCard:
    """A client, its budget now, and what it used since a day."""

    client: ClientView
    budget: BudgetView | None
    used: UsageView


@dataclass(frozen=True)
class CardPage:
    """Some of the cards, the dearest first, and how many clients there are."""

    cards: Sequence[ClientCard]
    of: int


def page(
    connection: sa.Connection,
    settings: Settings,
    since: Milliseconds,
    limit: int,
    skipped: int = 0,
    named: str = "",
    only: str | None = None,
) -> CardPage:
    """Return up to `limit` clients, without the first `skipped`: those that wait or were answered since then.

    `named` is a part of their names, and `only` the whole name of the only one.
    """
    found = [
        one
        for one in reversed(clients.active(connection, settings, since))
        if named in one.client and only in (None, one.client)
    ]
    shown = found[skipped : skipped + limit]
    budgets = of_clients(connection, settings, [one.client for one in shown])
    sums = usage.totals(connection, ["client"], day_of(since))
    used = {row.client: usage_view(row, ["client"]) for row in sums}
    cards = [ClientCard(one, budgets.get(one.client), used.get(one.client, UsageView())) for one in shown]
    return CardPage(cards, len(found))
