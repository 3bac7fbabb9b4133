"""SQL about budgets: what clients and keys have reserved and spent, and the requests held because they are over budget.

A request has an `estimate` from its arrival until it ends. It is reserved unless the request is held (`held_at`). The
transaction that ends the request clears the estimate, as the ledger then has the cost. What is reserved is thus a sum
of rows, and no counter can drift.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker import database
from carpool_worker.models.indexes import ESTIMATED
from carpool_worker.models.tables import requests, segments
from carpool_worker.policies.budgets import Budget, BudgetBalance
from carpool_worker.policies.keys import GatewayKey
from carpool_worker.states import STAGE
from carpool_worker.store import usage
from carpool_worker.store.requests.rows import among
from carpool_worker.units import SECOND

BUDGET_LOCK = 0x62756467
"""PostgreSQL's advisory lock on the reservations of all budgets."""

NOTHING = {"day": 0, "month": 0}

HELD = sa.and_(ESTIMATED, requests.c.held_at.is_not(None))


class HeldRequest(NamedTuple):
    """A request held until its client's budget has room; the estimate is in picodollars."""

    id: str
    client: str
    estimate: int
    callback: str | None
    gateway_key: str | None = None
    client_batch: str | None = None


def lock(connection: sa.Connection) -> None:
    """Keep others from reserving until this transaction ends."""
    database.lock(connection, BUDGET_LOCK)


def balances(connection: sa.Connection, budgets: Mapping[str, Budget], now: int) -> dict[str, BudgetBalance]:
    """Return the balances of these clients at that time, in milliseconds since the epoch."""
    # In this order: a request that ends in between counts twice for a moment; in the other order, not at all.
    reserved = _reserved(connection, list(budgets))
    spent = _spent(connection, list(budgets), now)
    return {
        client: BudgetBalance(budget, spent.get(client, NOTHING), reserved.get(client, 0))
        for client, budget in budgets.items()
    }


def key_balances(connection: sa.Connection, keys: Sequence[GatewayKey], now: int) -> dict[str, BudgetBalance]:
    """Return the balances of keys of the gateway that have a budget, by name."""
    if not keys:
        return {}
    names = [key.name for key in keys]
    row = requests.c
    theirs = sa.select(segments.c.gateway_key, sa.func.sum(sa.type_coerce(row.estimate, sa.BigInteger)))
    joined = theirs.join_from(requests, segments, segments.c.id == row.segment_id).where(
        row.client.in_({key.client for key in keys}), row.held_at.is_(None), ESTIMATED
    )
    found = connection.execute(
        joined.where(segments.c.gateway_key.in_(names)).group_by(segments.c.gateway_key)
    )
    reserved = {name: int(total) for name, total in found}  # before what is spent, as above
    spent = _spent(connection, names, now, by="gateway_key")
    return {
        key.name: BudgetBalance(key.budget, spent.get(key.name, NOTHING), reserved.get(key.name, 0))
        for key in keys
        if key.budget
    }


def _reserved(connection: sa.Connection, clients: Collection[str]) -> dict[str, int]:
    row = requests.c
    theirs = sa.select(row.client, sa.func.sum(sa.type_coerce(row.estimate, sa.BigInteger)))
    reserved = theirs.where(row.client.in_(clients), row.held_at.is_(None), ESTIMATED).group_by(row.client)
    return {client: int(total) for client, total in connection.execute(reserved)}


def _spent(
    connection: sa.Connection, names: Collection[str], now: int, by: str = "client"
) -> dict[str, dict[str, int]]:
    today = datetime.fromtimestamp(now / SECOND, UTC).date()
    row = usage.all_rows().c
    cost = sa.type_coerce(row.cost, sa.BigInteger)
    of_day = sa.func.sum(sa.case((row.day == today.isoformat(), cost), else_=0))
    of_month = sa.select(row[by], of_day, sa.func.sum(cost)).where(
        row[by].in_(names), row.day >= today.replace(day=1).isoformat()
    )
    found = connection.execute(of_month.group_by(row[by]))
    return {name: {"day": int(day), "month": int(month)} for name, day, month in found}


def clients_with_held(connection: sa.Connection) -> list[str]:
    """Return the clients with held requests."""
    # From client to client through the index; a DISTINCT would read all of it, including what is reserved.
    row = requests.c
    first = sa.select(sa.func.min(row.client).label("client")).where(ESTIMATED).cte(recursive=True)
    following = sa.select(sa.func.min(row.client)).where(ESTIMATED, row.client > first.c.client)
    clients = first.union_all(sa.select(following.scalar_subquery()).where(first.c.client.is_not(None)))
    has_held = sa.exists().where(row.client == clients.c.client, HELD)
    return list(connection.scalars(sa.select(clients.c.client).where(has_held)))


def oldest_held(
    connection: sa.Connection, client: str, limit: int, but_not: Collection[str] = ()
) -> list[HeldRequest]:
    """Return up to `limit` held requests of a client, the oldest first, `but_not` those of some keys."""
    row, of = requests.c, segments.c
    estimate = sa.type_coerce(row.estimate, sa.BigInteger)
    columns = (row.id, row.client, estimate, of.callback, of.gateway_key, row.client_batch)
    all_held = sa.select(*columns).join_from(requests, segments, segments.c.id == row.segment_id)
    held = all_held.where(row.client == client, HELD, row.cancel_requested_at.is_(None))
    if but_not:
        held = held.where(sa.or_(of.gateway_key.is_(None), of.gateway_key.not_in(but_not)))
    oldest = held.order_by(row.held_at, row.id).limit(limit)
    return [HeldRequest(*found) for found in connection.execute(oldest)]


def lock_held(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Lock those of `ids` that are held and not locked by others, in order of id; return them."""
    held = sa.select(requests.c.id).where(among(connection, ids), HELD)
    return set(connection.scalars(held.order_by(requests.c.id).with_for_update(skip_locked=True)))


def count_held(connection: sa.Connection) -> dict[str, int]:
    """Return the number of held requests of each client that has any."""
    counted = sa.select(requests.c.client, sa.func.count()).where(HELD).group_by(requests.c.client)
    return dict(connection.execute(counted).all())


def release(connection: sa.Connection, ids: Collection[str], now: int) -> None:
    """Release locked held requests to the stager; from now on their estimates are reserved."""
    held = sa.update(requests).where(among(connection, ids), HELD, requests.c.state.in_(STAGE.sources))
    connection.execute(held.values(held_at=None, retry_at=now))
