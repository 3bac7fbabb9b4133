"""What would cost a client less, as the advisor says it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal

import sqlalchemy as sa

from carpool_worker.advisor import Advice, advise
from carpool_worker.settings import Settings

Advised = Mapping[str, Sequence[Advice]]
"""Advice by the client that it is for, the largest saving first."""


def by_client(engine: sa.Engine, settings: Settings, since: str) -> Advised:
    """Return advice for all clients from what was used since that day (UTC); it reads samples of many requests."""
    found: dict[str, list[Advice]] = defaultdict(list)
    for one in advise(engine, since, None, settings.flush_interval):
        if client := one.facts.get("client"):
            found[str(client)].append(one)
    return found


def saves(advice: Sequence[Advice]) -> Decimal:
    """Return what the best piece of advice saves in a month, in dollars: pieces may be about the same tokens."""
    return max((one.saves_per_month for one in advice), default=Decimal(0))
