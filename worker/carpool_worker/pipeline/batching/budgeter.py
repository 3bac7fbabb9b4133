"""Keeps clients to their budgets: reserves an estimate for each request that is taken, holds or refuses what has no
room, and releases what is held when there is room again.

Whoever takes room holds one lock until its transaction ends, and adds up what is reserved and spent anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

import sqlalchemy as sa

from carpool.contract import Envelope, lane_of
from carpool_worker import transition_log
from carpool_worker.database import now, read, write
from carpool_worker.money.estimates import estimate
from carpool_worker.policies.budgets import Budget, Budgets, Over, Standing, budget_of, fitting, reason
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.requests import intake, reservations
from carpool_worker.store.requests.outcomes import errored_body
from carpool_worker.store.requests.reservations import Held, Refused

CHUNK_REQUESTS = 2_000
"""Requests of a client released in one transaction; more of them go with the next tick."""

EXCEEDED = "budget_exceeded"
"""The type of the error that a refused request's callback gets."""


@dataclass(slots=True)
class Shares:
    """What becomes of requests that are taken; `estimates`, in picodollars, has those whose client has a budget."""

    going: list[Envelope] = field(default_factory=list)
    held: list[Envelope] = field(default_factory=list)
    refused: list[tuple[Envelope, str]] = field(default_factory=list)  # and why
    estimates: dict[str, int] = field(default_factory=dict)


def share(connection: sa.Connection, envelopes: Sequence[Envelope], budgets: Budgets, at: int) -> Shares:
    """Decide which requests may go; until the transaction ends nobody else takes room of any budget.

    A model without a known price has no estimate, and its requests are not limited.
    """
    limited = {client: budget_of(budgets, client) for client in {one.client for one in envelopes}}
    limits = {client: budget for client, budget in limited.items() if budget}
    if not limits:
        return Shares(going=list(envelopes))
    day = datetime.fromtimestamp(at / 1_000, UTC).date()
    shares = Shares(estimates=_estimates((one for one in envelopes if one.client in limits), day))
    reservations.lock(connection)
    standings = reservations.standings(connection, limits, at)
    waiting = set(reservations.waiting_clients(connection))
    by_client: defaultdict[str, list[Envelope]] = defaultdict(list)
    for one in envelopes:
        (by_client[one.client] if one.id in shares.estimates else shares.going).append(one)
    for client, theirs in by_client.items():
        _share(shares, theirs, standings[client], is_waiting=client in waiting)
    return shares


def keep_back(connection: sa.Connection, shares: Shares, at: int) -> None:
    """Insert the requests that may not go (yet): held, or refused with a delivery to their callback."""
    kept = [*shares.held, *(one for one, _ in shares.refused)]
    lanes = {one.id: lane_of(one.model, one.headers) for one in kept}
    intake.insert_held(connection, kept, lanes, shares.estimates, at)
    _refuse(connection, [(_held(one, shares), why) for one, why in shares.refused], at)


def release(engine: sa.Engine, budgets: Budgets) -> list[str]:
    """Release what is held and has room by now, or has no budget any more; what can never have room is refused.

    Returns the ids of the refused.
    """
    refused: list[str] = []
    with read(engine) as connection:
        waiting = reservations.waiting_clients(connection)
        due = [client for client in waiting if _is_due(connection, client, budget_of(budgets, client))]
    for client in due:
        with write(engine) as connection:
            refused += _release(connection, client, budget_of(budgets, client), now())
    return refused


def _estimates(envelopes: Iterable[Envelope], day: date) -> dict[str, int]:
    known = ((one.id, estimate(one.model, one.params, day)) for one in envelopes)
    return {id_: amount for id_, amount in known if amount is not None}


def _share(shares: Shares, theirs: Sequence[Envelope], standing: Standing, *, is_waiting: bool) -> None:
    budget = standing.budget
    is_waiting &= budget.over is Over.WAIT
    for one in theirs:
        amount = shares.estimates[one.id]
        if not budget.allows(amount):
            shares.refused.append((one, reason(one.client, standing, amount)))
        elif is_waiting:  # behind those that are held already
            shares.held.append(one)
        elif amount <= standing.room:
            standing = replace(standing, reserved=standing.reserved + amount)
            shares.going.append(one)
        elif budget.over is Over.REFUSE:
            shares.refused.append((one, reason(one.client, standing, amount)))
        else:
            is_waiting = True
            shares.held.append(one)


def _is_due(connection: sa.Connection, client: str, budget: Budget | None) -> bool:
    if budget is None:
        return True
    standing = reservations.standings(connection, {client: budget}, now())[client]
    oldest = reservations.oldest_held(connection, client, 1)
    return any(one.estimate <= standing.room or not budget.allows(one.estimate) for one in oldest)


def _release(connection: sa.Connection, client: str, budget: Budget | None, at: int) -> list[str]:
    reservations.lock(connection)
    held = reservations.oldest_held(connection, client, CHUNK_REQUESTS)
    if budget is None:
        reservations.release(connection, reservations.lock_held(connection, [one.id for one in held]), at)
        return []
    standing = reservations.standings(connection, {client: budget}, at)[client]
    waiting = [one for one in held if budget.allows(one.estimate)]
    going = waiting[: fitting([one.estimate for one in waiting], standing.room)]
    never = [one for one in held if not budget.allows(one.estimate)]  # the budget was cut since
    locked = reservations.lock_held(connection, [one.id for one in (*going, *never)])
    released = [one.id for one in going if one.id in locked]
    reservations.release(connection, released, at)
    refused = [(one, reason(client, standing, one.estimate)) for one in never if one.id in locked]
    _refuse(connection, refused, at)
    transition_log.note_many(connection, "requests released", len(released), client=client, why="budget")
    return [one.id for one, _ in refused]


def _refuse(connection: sa.Connection, refused: Sequence[tuple[Held, str]], at: int) -> None:
    if not refused:
        return
    reservations.refuse(
        connection, [Refused(one.id, errored_body(EXCEEDED, why)) for one, why in refused], at
    )
    called_back = [(one.id, one.callback) for one, _ in refused if one.callback]
    deliveries.insert(connection, called_back, at)


def _held(one: Envelope, shares: Shares) -> Held:
    return Held(one.id, shares.estimates[one.id], one.callback.decode() if one.callback else None)
