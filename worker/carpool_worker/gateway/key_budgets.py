"""The budgets of keys at the door: what is over one is refused at once, with a 402 that no client repeats.

What is spent and reserved is read from the tables every two seconds at most. What this process lets in is added until
the tables have it. Other gateways' calls are seen a moment later, so the last word is the aggregator's: it sums up
again under a lock, and ends as `budget_exceeded` what it finds over budget.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.database import now, read
from carpool_worker.gateway.errors import GatewayError
from carpool_worker.policies.budgets import BudgetBalance, Over, reason
from carpool_worker.policies.keys import GatewayKey
from carpool_worker.store.requests import reservations
from carpool_worker.store.requests import rows as requests

FRESH_SECONDS = 2.0
AGAIN_SECONDS = 0.2
"""How old a balance may be, and how old where it has no room: answers may have made some since."""


class OverBudget(GatewayError):
    """A key's budget has no room: a 402, which no client repeats by itself."""

    def __init__(self, key: GatewayKey, balance: BudgetBalance, estimate: int) -> None:
        super().__init__(402, reason(f"key {key.name}", balance, estimate), should_retry=False)


PENDING_SECONDS = 600.0
"""How long what was let in counts without being stored: it may never have reached the inbox."""


class _Pending(NamedTuple):
    """A request that was let in, and is not known to be stored."""

    estimate: int  # picodollars
    since: float  # by the monotonic clock


@dataclass(frozen=True, slots=True)
class _KnownBalance:
    """A key's balance, and what had been let in without an id when it was read."""

    balance: BudgetBalance
    read_at: float  # by the monotonic clock
    accepted: int  # picodollars


class KeyBudgets:
    """What keys with a budget may still spend, as far as this process knows. It belongs to one event loop."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._known: dict[str, _KnownBalance] = {}  # by the key's id, as the others
        self._accepted: Counter[str] = Counter()
        self._pending: defaultdict[str, dict[str, _Pending]] = defaultdict(dict)  # by the request's id
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def check(self, key: GatewayKey, estimate: int, request_id: str | None = None) -> None:
        """Let in what is estimated at so many picodollars; call it only for what is new.

        That is a request on its way through the inbox, by its id; or without one, several that the tables will have at
        once. Where the key's budget lets requests wait, none is refused but what it could never pay.

        Raises:
            OverBudget: the key's budget has no room for them.
            sqlalchemy.exc.OperationalError: the database can't be reached.
        """
        if key.budget is None:
            return
        if not key.budget.allows(estimate):
            raise OverBudget(key, BudgetBalance(key.budget, reservations.NOTHING), estimate)
        if key.budget.over is Over.WAIT:
            return
        balance = await self._balance(key, FRESH_SECONDS)
        if estimate > balance.room:
            balance = await self._balance(key, AGAIN_SECONDS)
        if estimate > balance.room:
            raise OverBudget(key, balance, estimate)
        if request_id is None:
            self._accepted[key.id] += estimate
        else:
            self._pending[key.id][request_id] = _Pending(estimate, monotonic())

    async def _balance(self, key: GatewayKey, seconds: float) -> BudgetBalance:
        async with self._reading[key.id]:
            known = self._known.get(key.id)
            if not (known and known.balance.budget == key.budget and monotonic() - known.read_at < seconds):
                known = await self._load(key)
        pending = sum(one.estimate for one in self._pending[key.id].values())
        lately = self._accepted[key.id] - known.accepted + pending
        return BudgetBalance(known.balance.budget, known.balance.spent, known.balance.reserved + lately)

    async def _load(self, key: GatewayKey) -> _KnownBalance:
        read_at, accepted, pending = monotonic(), self._accepted[key.id], list(self._pending[key.id])
        balance, stored = await asyncio.to_thread(self._read, key, pending)
        waiting = self._pending[key.id]
        for id_ in pending:
            if id_ in stored or waiting[id_].since < read_at - PENDING_SECONDS:
                del waiting[id_]
        known = self._known[key.id] = _KnownBalance(balance, read_at, accepted)
        return known

    def _read(self, key: GatewayKey, pending: Sequence[str]) -> tuple[BudgetBalance, Collection[str]]:
        # In this order: one that is stored in between is missed for a moment; in the other order, it counts twice.
        with read(self._engine) as connection:
            balance = reservations.key_balances(connection, [key], now())[key.name]
            return balance, requests.known(connection, pending) if pending else ()
