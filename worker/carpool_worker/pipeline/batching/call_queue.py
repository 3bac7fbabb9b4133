"""Puts requests into the queue of calls in real time, and takes them out of it again: what is due there is called by
pipeline/submission/fallback.py.

Whoever finds that a request's deadline leaves no time for a batch (see policies/deadlines.py) calls this. It decides
whether there is money for it. A request in the queue is in no batch, so nobody else sends it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa

from carpool_worker.database import now, write
from carpool_worker.models import Batch
from carpool_worker.models.tables import params
from carpool_worker.money.estimates import estimate, full_estimate
from carpool_worker.pipeline.batching.leaving import leave
from carpool_worker.pipeline.batching.purses import Purses, open_purses
from carpool_worker.policies.budgets import budget_of
from carpool_worker.policies.purses import BudgetDecision, Purse, pay
from carpool_worker.policies.real_time import RealTimePolicy
from carpool_worker.states import DISCARD, REFUSE, RequestState
from carpool_worker.store import gateway_keys
from carpool_worker.store.batches import unsent
from carpool_worker.store.requests import (
    call_claims,
    call_intake,
    call_money,
    endings,
    reservations,
    segments,
)
from carpool_worker.store.requests.call_intake import CallableRequest, NewCall
from carpool_worker.store.requests.endings import Ending
from carpool_worker.units import SECOND, Milliseconds

CHUNK_REQUESTS = 500
"""Requests taken out in one transaction."""

EXCEEDED = "real_time_budget_exceeded"
"""The error type of a request that is refused, as nobody may pay for its call, and its client does not want to wait."""


@dataclass(slots=True)
class TakenOut:
    """The ids of requests that are called now, of those that stay as there is no money, and of those that were refused;
    and of the batches that were left empty.
    """

    queued: list[str] = field(default_factory=list)
    over_budget: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    dissolved: list[str] = field(default_factory=list)


def take_out(engine: sa.Engine, ids: Sequence[str], policy: RealTimePolicy) -> TakenOut:
    """Take requests out of the batches that Anthropic does not have, to be called in real time.

    Those of `ids` that wait in an open or sealed batch, or for another try, are moved; all others stay as they are: at
    Anthropic, ended, canceled, held, called before. Each chunk is one transaction: a request is either in its batch or
    in the queue of calls, whatever crashes. Without real-time money nothing is read or done.
    """
    taken = TakenOut()
    for chunk in _chunks(ids, policy):
        with write(engine) as connection:
            reservations.lock(connection)  # before batches and requests, as the aggregator does
            _take_out(connection, chunk, policy, taken, now())
    return taken


def call_again(engine: sa.Engine, ids: Sequence[str], policy: RealTimePolicy) -> TakenOut:
    """Have requests called that Anthropic has in a batch, too: the first answer is delivered, and both are paid.

    Only for requests whose client wants that. They stay in their batch. None is called twice.
    """
    taken = TakenOut()
    for chunk in _chunks(ids, policy):
        with write(engine) as connection:
            reservations.lock(connection)
            at = now()
            found = _decide(connection, call_intake.lock_sent(connection, chunk), policy, at, beside=True)
            call_intake.insert(connection, found.calls, at, beside=True)
            taken.queued += [one.request.id for one in found.calls]
            taken.over_budget += [one.id for one in (*found.held, *(one for one, _ in found.refused))]
    return taken


def room(connection: sa.Connection, policy: RealTimePolicy, account: str | None) -> int:
    """Return how many more requests an account can call within a minute: 0 without real-time money."""
    if not policy.is_on:
        return 0
    return max(0, policy.per_minute - call_claims.waiting(connection).get(account, 0))


@dataclass(slots=True)
class _Decided:
    """Requests by whether their call can be paid."""

    calls: list[NewCall] = field(default_factory=list)
    held: list[CallableRequest] = field(default_factory=list)
    refused: list[tuple[CallableRequest, str]] = field(default_factory=list)


def _chunks(ids: Sequence[str], policy: RealTimePolicy) -> Iterator[list[str]]:
    if policy.is_on:
        yield from (list(ids[start : start + CHUNK_REQUESTS]) for start in range(0, len(ids), CHUNK_REQUESTS))


def _take_out(
    connection: sa.Connection, ids: Sequence[str], policy: RealTimePolicy, taken: TakenOut, at: Milliseconds
) -> None:
    locked = unsent.lock(connection, call_intake.batches_of(connection, ids))
    found = _decide(connection, call_intake.lock_unsent(connection, ids, locked), policy, at, beside=False)
    gone = [one.request for one in found.calls] + [one for one, _ in found.refused]
    call_intake.insert(connection, found.calls, at, beside=False)
    endings.finish(connection, [_refused(one, why) for one, why in found.refused], at)
    taken.dissolved += _shrink(connection, gone, locked)
    taken.queued += [one.request.id for one in found.calls]
    taken.over_budget += [one.id for one in found.held]
    taken.refused += [one.id for one, _ in found.refused]


def _shrink(
    connection: sa.Connection, gone: Sequence[CallableRequest], locked: Mapping[str, Batch]
) -> Iterator[str]:
    """Subtract requests from the locked batches that they were in; yield the batches that are dissolved."""
    by_batch: defaultdict[str, list[int]] = defaultdict(list)
    for one in gone:
        if one.state is RequestState.BATCHED:
            by_batch[one.batch_id].append(one.params_bytes)
    for batch_id, sizes in by_batch.items():
        if leave(connection, locked[batch_id], sizes) == 0:
            yield batch_id


def _decide(
    connection: sa.Connection,
    candidates: Sequence[CallableRequest],
    policy: RealTimePolicy,
    at: Milliseconds,
    *,
    beside: bool,
) -> _Decided:
    """Decide which calls can be paid, from the real-time budgets and, for what they cost more, from all others."""
    day = datetime.fromtimestamp(at / SECOND, UTC).date()
    bodies = segments.at_places(connection, params, {one.id: one.place for one in candidates})
    owners = {owner: budget for one in candidates for owner, budget in policy.budgets_of(one.client).items()}
    full = {
        owner: Purse.of(f"client {owner} in real time", balance, others_wait=False)
        for owner, balance in call_money.balances(connection, owners, at).items()
    }
    others = _other_purses(connection, candidates, policy, at)
    decided = _Decided()
    for one in candidates:
        body = bodies.get(one.id)
        amount = None if body is None else full_estimate(one.model, body, day)
        paid_from = [full[owner] for owner in policy.budgets_of(one.client)]
        if body is None or amount is None or not paid_from:
            decided.held.append(one)  # nobody knows what it would cost, or may pay for it
            continue
        reserved = 0 if beside else estimate(one.model, body, day) or 0
        added = 0 if one.estimate is None else max(0, amount - reserved)
        _pay(decided, NewCall(one, amount, added), paid_from, others.of(one.client, one.gateway_key))
    return decided


def _pay(decided: _Decided, call: NewCall, full: Sequence[Purse], others: Sequence[Purse]) -> None:
    if not all(purse.has_room(call.added) for purse in others):
        decided.held.append(call.request)
        return
    verdict = pay(full, call.estimate)
    if verdict.decision is BudgetDecision.WITHIN:
        for purse in others:
            purse.reserve(call.added)
        decided.calls.append(call)
    elif verdict.decision is BudgetDecision.HELD:
        decided.held.append(call.request)
    else:
        decided.refused.append((call.request, verdict.why))


def _other_purses(
    connection: sa.Connection, candidates: Sequence[CallableRequest], policy: RealTimePolicy, at: Milliseconds
) -> Purses:
    limited = {one.client: budget_of(policy.client_budgets, one.client) for one in candidates}
    keys = gateway_keys.with_budgets(connection, {one.gateway_key for one in candidates if one.gateway_key})
    return open_purses(connection, {name: one for name, one in limited.items() if one}, keys, at)


def _refused(request: CallableRequest, why: str) -> Ending:
    transition = DISCARD if request.state is RequestState.BATCHED else REFUSE
    return Ending.failed(request, EXCEEDED, why, transition)
