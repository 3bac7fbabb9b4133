"""Keeps clients within their budgets: reserves an estimate for each new request, holds or refuses requests that are
over budget, and releases held ones when there is room again.

Every transaction that reserves takes one lock until it ends, and sums up again what is reserved and spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import NamedTuple

import sqlalchemy as sa

from carpool.contract import Envelope
from carpool_worker import transition_log
from carpool_worker.database import now, read, write
from carpool_worker.money.estimates import estimate
from carpool_worker.pipeline.batching.purses import open_purses
from carpool_worker.policies.budgets import Budgets, budget_of
from carpool_worker.policies.purses import BudgetDecision, BudgetVerdict, Purse, decide
from carpool_worker.prompt_cache.prefixes import prefix_of
from carpool_worker.states import REFUSE
from carpool_worker.store import gateway_keys
from carpool_worker.store.requests import endings, intake, reservations
from carpool_worker.store.requests.endings import Ending
from carpool_worker.store.requests.reservations import HeldRequest
from carpool_worker.store.requests.segments import Place
from carpool_worker.units import SECOND, Picodollars

CHUNK_REQUESTS = 2_000
"""Requests of a client released in one transaction; the rest follow with the next tick."""

ALWAYS = BudgetVerdict(BudgetDecision.WITHIN)
"""For what has no estimate."""

EXCEEDED = "budget_exceeded"
"""The error type that the callback of a refused request gets."""


@dataclass(slots=True)
class BudgetSplit:
    """New requests by whether their budgets have room; `estimates`, by id, are of those that are paid from any."""

    within: list[Envelope] = field(default_factory=list)
    held: list[Envelope] = field(default_factory=list)
    refused: list[tuple[Envelope, str]] = field(default_factory=list)  # with the reason
    estimates: dict[str, Picodollars] = field(default_factory=dict)


class Plan(NamedTuple):
    """Held requests that are released, and those that are refused, with the reason."""

    going: list[HeldRequest]
    never: list[tuple[HeldRequest, str]]


def split(connection: sa.Connection, envelopes: Sequence[Envelope], budgets: Budgets, at: int) -> BudgetSplit:
    """Decide which new requests are within budget; until the transaction ends, no other reserves from any budget.

    A request may be paid from its client's budget, from that of its key of the gateway, or from both. A model without a
    known price has no estimate, so its requests are not limited.
    """
    clients = {one.client: budget_of(budgets, one.client) for one in envelopes}
    limited = {client: budget for client, budget in clients.items() if budget}
    keys = gateway_keys.with_budgets(connection, {one.gateway_key for one in envelopes if one.gateway_key})
    if not (limited or keys):
        return BudgetSplit(within=list(envelopes))
    names = {key.name for key in keys}
    day = datetime.fromtimestamp(at / SECOND, UTC).date()
    counted = (one for one in envelopes if one.client in limited or one.gateway_key in names)
    found = BudgetSplit(estimates=_estimates(counted, day))
    reservations.lock(connection)
    waiting = set(reservations.clients_with_held(connection))
    purses = open_purses(connection, limited, keys, at, waiting)
    for one in envelopes:
        _place(found, one, purses.of(one.client, one.gateway_key))
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
        due = [client for client in waiting if any(_plan(connection, client, budgets, now()))]
    for client in due:
        with write(engine) as connection:
            refused += _release(connection, client, budgets, now())
    return refused


def _estimates(envelopes: Iterable[Envelope], day: date) -> dict[str, Picodollars]:
    known = ((one.id, estimate(one.model, one.params, day)) for one in envelopes)
    return {id_: amount for id_, amount in known if amount is not None}


def _place(split: BudgetSplit, one: Envelope, purses: Sequence[Purse]) -> None:
    amount = split.estimates.get(one.id)
    verdict = ALWAYS if amount is None else decide(purses, amount)
    if verdict.decision is BudgetDecision.REFUSED:
        split.refused.append((one, verdict.why))
    else:
        (split.held if verdict.decision is BudgetDecision.HELD else split.within).append(one)


def _plan(connection: sa.Connection, client: str, budgets: Budgets, at: int) -> Plan:
    """Return which of a client's held requests have room now, and which never will, as a budget has been cut since.

    Those that wait for their key's budget alone are passed over, so that the others' need not wait for it.
    """
    budget = budget_of(budgets, client)
    keys = gateway_keys.all_with_budgets(connection, client)
    purses = open_purses(connection, {client: budget} if budget else {}, keys, at)
    for purse in (*purses.clients.values(), *purses.keys.values()):
        purse.refuses = False  # they have been let wait
    plan, passed_over = Plan([], []), set[str]()
    while True:
        held = reservations.oldest_held(connection, client, CHUNK_REQUESTS, passed_over)
        for one in held:
            verdict = decide(purses.of(client, one.gateway_key), one.estimate)
            if verdict.decision is BudgetDecision.WITHIN:
                plan.going.append(one)
            elif verdict.decision is BudgetDecision.REFUSED:
                plan.never.append((one, verdict.why))
        if any(plan) or not held or purses.waited_for() <= passed_over:
            return plan
        passed_over |= purses.waited_for()


def _release(connection: sa.Connection, client: str, budgets: Budgets, at: int) -> list[str]:
    reservations.lock(connection)
    plan = _plan(connection, client, budgets, at)
    planned = [*plan.going, *(one for one, _ in plan.never)]
    locked = reservations.lock_held(connection, [one.id for one in planned])
    released = [one.id for one in plan.going if one.id in locked]
    reservations.release(connection, released, at)
    refused = [(one, why) for one, why in plan.never if one.id in locked]
    _refuse(connection, refused, at)
    transition_log.record_many(connection, "requests released", len(released), client=client, why="budget")
    return [one.id for one, _ in refused]


def _refuse(connection: sa.Connection, refused: Sequence[tuple[HeldRequest, str]], at: int) -> None:
    finished = [Ending.failed(one, EXCEEDED, why, REFUSE) for one, why in refused]
    endings.finish(connection, finished, at)


def _held(one: Envelope, split: BudgetSplit) -> HeldRequest:
    callback = one.callback.decode() if one.callback else None
    return HeldRequest(
        one.id, one.client, split.estimates[one.id], callback, one.gateway_key, one.client_batch
    )
