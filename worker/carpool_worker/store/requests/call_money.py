"""SQL about money for calls in real time: what was spent, and what calls that are due or under way may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker.models.indexes import LOST_CALLS, UNFINISHED_CALLS
from carpool_worker.models.tables import real_time_calls, requests
from carpool_worker.policies.budgets import Budget, BudgetBalance
from carpool_worker.policies.real_time import ALL
from carpool_worker.store import usage
from carpool_worker.store.requests.rows import REAL_TIME, among
from carpool_worker.units import DOLLAR, SECOND, Milliseconds, Picodollars

row = real_time_calls.c


class SecondBill(NamedTuple):
    """A request that was answered by its call, and afterwards by its batch as well."""

    request_id: str
    round: int


def balances(
    connection: sa.Connection, budgets: Mapping[str, Budget], at: Milliseconds
) -> dict[str, BudgetBalance]:
    """Return the balances of these budgets for real-time money, by their owners; ALL is that of all clients.

    A call that was lost may have been billed: its estimate counts as spent.
    """
    if not budgets:
        return {}
    reserved = _by_owner(connection, UNFINISHED_CALLS)  # before what is spent, see reservations.balances
    today = datetime.fromtimestamp(at / SECOND, UTC).date()
    begins = {"day": _begin(today.isoformat()), "month": _begin(today.replace(day=1).isoformat())}
    lost = {
        period: _by_owner(connection, LOST_CALLS, row.finished_at >= begin, row.claude_id.is_(None))
        for period, begin in begins.items()
    }
    billed = _billed(connection, today.isoformat(), today.replace(day=1).isoformat())
    return {
        owner: BudgetBalance(
            budget,
            {period: billed[period].get(owner, 0) + lost[period].get(owner, 0) for period in begins},
            reserved.get(owner, 0),
        )
        for owner, budget in budgets.items()
    }


def second_bills(connection: sa.Connection, batch_id: str, ids: Sequence[str]) -> list[SecondBill]:
    """Return those of these requests that a call has answered, and whose result in this batch is not billed yet."""
    called = sa.select(row.request_id, row.round).where(
        among(connection, ids, row.request_id), row.batch_id == batch_id, row.batch_billed_at.is_(None)
    )
    ended = called.join(requests, requests.c.id == row.request_id).where(
        requests.c.batch_id == REAL_TIME, requests.c.finished_at.is_not(None)
    )
    return [SecondBill._make(one) for one in connection.execute(ended.order_by(row.request_id, row.round))]


def bill_batch(
    connection: sa.Connection, bill: SecondBill, cost: Picodollars | None, at: Milliseconds
) -> bool:
    """Record what the batch's answer cost as well; return False if that is in the ledger already."""
    unbilled = sa.update(real_time_calls).where(
        row.request_id == bill.request_id, row.round == bill.round, row.batch_billed_at.is_(None)
    )
    amount = None if cost is None else Decimal(cost) / DOLLAR
    if not connection.execute(unbilled.values(batch_billed_at=at, batch_cost=amount)).rowcount:
        return False
    add_cost(connection, bill.request_id, cost)
    return True


def add_cost(connection: sa.Connection, request_id: str, cost: Picodollars | None) -> None:
    """Add to what a request that has ended has cost."""
    if cost is None:
        return
    paid = sa.func.coalesce(sa.type_coerce(requests.c.cost, sa.BigInteger), 0) + cost
    ended = sa.update(requests).where(among(connection, [request_id]), requests.c.finished_at.is_not(None))
    connection.execute(ended.values(cost=sa.type_coerce(paid, requests.c.cost.type)))


def _by_owner(connection: sa.Connection, *which: sa.ColumnElement[bool]) -> dict[str, int]:
    total = sa.func.sum(sa.type_coerce(row.estimate, sa.BigInteger))
    found = connection.execute(sa.select(row.client, total).where(*which).group_by(row.client))
    return _with_all({client: int(amount) for client, amount in found})


def _billed(connection: sa.Connection, today: str, month: str) -> dict[str, dict[str, int]]:
    ledger = usage.all_rows().c
    cost = sa.type_coerce(ledger.cost, sa.BigInteger)
    of_day = sa.func.sum(sa.case((ledger.day == today, cost), else_=0))
    spent = sa.select(ledger.client, of_day, sa.func.sum(cost)).where(
        ledger.day >= month, ledger.processing == usage.REAL_TIME
    )
    found: Sequence[Any] = connection.execute(spent.group_by(ledger.client)).all()
    return {
        "day": _with_all({client: int(day) for client, day, _ in found}),
        "month": _with_all({client: int(total) for client, _, total in found}),
    }


def _with_all(amounts: dict[str, int]) -> dict[str, int]:
    return amounts | {ALL: sum(amounts.values())}


def _begin(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * SECOND)
