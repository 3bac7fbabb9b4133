"""Keeps clients within their budgets: reserves an estimate for each new request, holds or refuses requests that are
over budget, and releases held ones when there is room again.

Every transaction that reserves takes one lock until it ends, and sums up again what is reserved and spent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

import sqlalchemy as sa

from carpool.contract import Envelope
from carpool_worker import transition_log
from carpool_worker.database import now, read, write
from carpool_worker.money.estimates import estimate
from carpool_worker.policies.budgets import (
    Budget,
    BudgetBalance,
    Budgets,
    Over,
    affordable,
    budget_of,
    reason,
)
from carpool_worker.prompt_cache.prefixes import prefix_of
from carpool_worker.states import REFUSE
from carpool_worker.store.requests import endings, intake, reservations
from carpool_worker.store.requests.endings import Ending
from carpool_worker.store.requests.reservations import HeldRequest
from carpool_worker.store.requests.segments import Place
from carpool_worker.units import SECOND, Picodollars

CHUNK_REQUESTS = 2_000
"""Requests of a client released in one transaction; the rest follow with the next tick."""

EXCEEDED = "budget_exceeded"
"""The error type that the callback of a refused request gets."""


@dataclass(slots=True)
class BudgetSplit:
    """New requests by whether their budget has room; `estimates` are of requests whose client has a budget, by id."""

    within: list[Envelope] = field(default_factory=list)
    held: list[Envelope] = field(default_factory=list)
    refused: list[tuple[Envelope, str]] = field(default_factory=list)  # with the reason
    estimates: dict[str, Picodollars] = field(default_factory=dict)


def split(connection: sa.Connection, envelopes: Sequence[Envelope], budgets: Budgets, at: int) -> BudgetSplit:
    """Decide which new requests are within budget; until the transaction ends, no other reserves from any budget.

    A model without a known price has no estimate, so its requests are not limited.
    """
    clients = {one.client: budget_of(budgets, one.client) for one in envelopes}
    limited = {client: budget for client, budget in clients.items() if budget}
    if not limited:
        return BudgetSplit(within=list(envelopes))
    day = datetime.fromtimestamp(at / SECOND, UTC).date()
    found = BudgetSplit(estimates=_estimates((one for one in envelopes if one.client in limited), day))
    reservations.lock(connection)
    balances = reservations.balances(connection, limited, at)
    waiting = set(reservations.clients_with_held(connection))
    by_client: defaultdict[str, list[Envelope]] = defaultdict(list)
    for one in envelopes:
        (by_client[one.client] if one.id in found.estimates else found.within).append(one)
    for client, theirs in by_client.items():
        _split_client(found, theirs, balances[client], others_wait=client in waiting)
    return found


def insert_over_budget(
    connection: sa.Connection, split: BudgetSplit, places: Mapping[str, Place], at: int
) -> None:
    """Insert the requests that are over budget: as held, or as refused, with the deliveries of the refusals."""
    over = [*split.held, *(one for one, _ in split.refused)]
    prefixes = {one.id: prefix_of(one.params) for one in over}
    intake.insert_held(connection, over, places, prefixes, split.estimates, at)
    _refuse(connection, [(_held(one, split), why) for one, why in split.refused], at)


def release(engine: sa.Engine, budgets: Budgets) -> list[str]:
    """Release held requests for which there is room now, or whose client no longer has a budget.

    The `carpool.stage` task calls it, each second while requests are held. Each client is one transaction: released
    requests become due for the stager, and those too expensive for the whole budget are refused, with their deliveries.
    A crash leaves the other clients to the next tick. Returns the ids of the refused requests.
    """
    refused: list[str] = []
    with read(engine) as connection:
        waiting = reservations.clients_with_held(connection)
        due = [client for client in waiting if _is_due(connection, client, budget_of(budgets, client))]
    for client in due:
        with write(engine) as connection:
            refused += _release(connection, client, budget_of(budgets, client), now())
    return refused


def _estimates(envelopes: Iterable[Envelope], day: date) -> dict[str, Picodollars]:
    known = ((one.id, estimate(one.model, one.params, day)) for one in envelopes)
    return {id_: amount for id_, amount in known if amount is not None}


def _split_client(
    split: BudgetSplit, theirs: Sequence[Envelope], balance: BudgetBalance, *, others_wait: bool
) -> None:
    budget = balance.budget
    must_wait = others_wait and budget.over is Over.WAIT  # after those that are held already
    for one in theirs:
        amount = split.estimates[one.id]
        if not budget.allows(amount):
            split.refused.append((one, reason(one.client, balance, amount)))
        elif must_wait:
            split.held.append(one)
        elif amount <= balance.room:
            balance = replace(balance, reserved=balance.reserved + amount)
            split.within.append(one)
        elif budget.over is Over.REFUSE:
            split.refused.append((one, reason(one.client, balance, amount)))
        else:
            must_wait = True
            split.held.append(one)


def _is_due(connection: sa.Connection, client: str, budget: Budget | None) -> bool:
    if budget is None:
        return True
    balance = reservations.balances(connection, {client: budget}, now())[client]
    oldest = reservations.oldest_held(connection, client, 1)
    return any(one.estimate <= balance.room or not budget.allows(one.estimate) for one in oldest)


def _release(connection: sa.Connection, client: str, budget: Budget | None, at: int) -> list[str]:
    reservations.lock(connection)
    held = reservations.oldest_held(connection, client, CHUNK_REQUESTS)
    if budget is None:
        reservations.release(connection, reservations.lock_held(connection, [one.id for one in held]), at)
        return []
    balance = reservations.balances(connection, {client: budget}, at)[client]
    waiting = [one for one in held if budget.allows(one.estimate)]
    going = waiting[: affordable([one.estimate for one in waiting], balance.room)]
    never = [one for one in held if not budget.allows(one.estimate)]  # the budget has been cut since
    locked = reservations.lock_held(connection, [one.id for one in (*going, *never)])
    released = [one.id for one in going if one.id in locked]
    reservations.release(connection, released, at)
    refused = [(one, reason(client, balance, one.estimate)) for one in never if one.id in locked]
    _refuse(connection, refused, at)
    transition_log.record_many(connection, "requests released", len(released), client=client, why="budget")
    return [one.id for one, _ in refused]


def _refuse(connection: sa.Connection, refused: Sequence[tuple[HeldRequest, str]], at: int) -> None:
    finished = [Ending.failed(one, EXCEEDED, why, REFUSE) for one, why in refused]
    endings.finish(connection, finished, at)


def _held(one: Envelope, split: BudgetSplit) -> HeldRequest:
    callback = one.callback.decode() if one.callback else None
    return HeldRequest(one.id, one.client, split.estimates[one.id], callback)
