"""Budgets in SQL: what clients have reserved and spent, and the requests that wait for money.

A request has an `estimate` from when it is taken until it ends: reserved, or, where `held_at` says since when, still
waited for. In the transaction of its end it has none any more, as its cost then stands in the ledger. So what is
reserved is a sum of rows: no counter is there to drift.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker import database
from carpool_worker.models.indexes import ESTIMATED
from carpool_worker.models.tables import requests, usage
from carpool_worker.policies.budgets import Budget, BudgetBalance
from carpool_worker.states import STAGE
from carpool_worker.store.requests.rows import among

BUDGET_LOCK = 0x62756467
"""PostgreSQL's advisory lock on what is left of budgets."""

HELD = sa.and_(ESTIMATED, requests.c.held_at.is_not(None))


class HeldRequest(NamedTuple):
    """A request that waits for its client's budget; the estimate in picodollars."""

    id: str
    estimate: int
    callback: str | None


def lock(connection: sa.Connection) -> None:
    """Let nobody else take room until this transaction ends."""
    database.lock(connection, BUDGET_LOCK)


def balances(connection: sa.Connection, budgets: Mapping[str, Budget], now: int) -> dict[str, BudgetBalance]:
    """Return how these clients stand at that time, in milliseconds since the epoch."""
    # In this order: what is settled in between counts twice for once, where the other way it would not count at all.
    reserved = _reserved(connection, list(budgets))
    spent = _spent(connection, list(budgets), now)
    nothing = {"day": 0, "month": 0}
    return {
        client: BudgetBalance(budget, spent.get(client, nothing), reserved.get(client, 0))
        for client, budget in budgets.items()
    }


def _reserved(connection: sa.Connection, clients: Collection[str]) -> dict[str, int]:
    row = requests.c
    theirs = sa.select(row.client, sa.func.sum(sa.type_coerce(row.estimate, sa.BigInteger)))
    reserved = theirs.where(row.client.in_(clients), row.held_at.is_(None), ESTIMATED).group_by(row.client)
    return {client: int(total) for client, total in connection.execute(reserved)}


def _spent(connection: sa.Connection, clients: Collection[str], now: int) -> dict[str, dict[str, int]]:
    today = datetime.fromtimestamp(now / 1_000, UTC).date()
    row, cost = usage.c, sa.type_coerce(usage.c.cost, sa.BigInteger)
    of_day = sa.func.sum(sa.case((row.day == today.isoformat(), cost), else_=0))
    of_month = sa.select(row.client, of_day, sa.func.sum(cost)).where(
        row.client.in_(clients), row.day >= today.replace(day=1).isoformat()
    )
    found = connection.execute(of_month.group_by(row.client))
    return {client: {"day": int(day), "month": int(month)} for client, day, month in found}


def clients_with_held(connection: sa.Connection) -> list[str]:
    """Return the clients that have requests held."""
    # From client to client by the index, which a DISTINCT would read whole: it holds all that is reserved, too.
    row = requests.c
    first = sa.select(sa.func.min(row.client).label("client")).where(ESTIMATED).cte(recursive=True)
    following = sa.select(sa.func.min(row.client)).where(ESTIMATED, row.client > first.c.client)
    clients = first.union_all(sa.select(following.scalar_subquery()).where(first.c.client.is_not(None)))
    holds = sa.exists().where(row.client == clients.c.client, HELD)
    return list(connection.scalars(sa.select(clients.c.client).where(holds)))


def oldest_held(connection: sa.Connection, client: str, limit: int) -> list[HeldRequest]:
    """Return up to `limit` requests of a client that wait for its budget, the oldest first."""
    row = requests.c
    columns = (row.id, sa.type_coerce(row.estimate, sa.BigInteger), row.callback)
    held = sa.select(*columns).where(row.client == client, HELD, row.cancel_requested_at.is_(None))
    oldest = held.order_by(row.held_at, row.id).limit(limit)
    return [HeldRequest(*found) for found in connection.execute(oldest)]


def lock_held(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Return those of `ids` that are held and nobody else is at, locked in order of id until the transaction ends."""
    held = sa.select(requests.c.id).where(among(connection, ids), HELD)
    return set(connection.scalars(held.order_by(requests.c.id).with_for_update(skip_locked=True)))


def count_held(connection: sa.Connection) -> dict[str, int]:
    """Return how many requests of each client wait for its budget, where any do."""
    counted = sa.select(requests.c.client, sa.func.count()).where(HELD).group_by(requests.c.client)
    return dict(connection.execute(counted).all())


def release(connection: sa.Connection, ids: Collection[str], now: int) -> None:
    """Let the stager have locked requests that are held; from now on their estimates are reserved."""
    held = sa.update(requests).where(among(connection, ids), HELD, requests.c.state.in_(STAGE.sources))
    connection.execute(held.values(held_at=None, retry_at=now))
