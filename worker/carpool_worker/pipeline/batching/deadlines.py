"""Keeps deadlines: reads what is due and how long batches take, lets policies/deadlines.py decide, and acts on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from carpool_worker.database import now, read, write
from carpool_worker.pipeline.batching import call_queue
from carpool_worker.pipeline.batching.call_queue import TakenOut
from carpool_worker.policies.deadlines import CALL_SECONDS, DeadlineRule, Move, decide
from carpool_worker.policies.real_time import RealTimePolicy
from carpool_worker.states import BatchState
from carpool_worker.store import durations
from carpool_worker.store.batches import deadlines as store
from carpool_worker.store.batches.deadlines import Retrying, Watched
from carpool_worker.store.durations import LearnedDurations
from carpool_worker.units import SECOND, Milliseconds, after

MOST_LOOKS = 20
"""How often a batch is asked for more requests that are to be called, in one run: each time without those clients whose
real-time budgets have turned out to be used up."""

MOST_RETRYING = 2_000
"""Requests that are looked at while they wait for another try: those that would wait longest."""

LEAST_OPEN = 5 * SECOND
"""A batch takes requests for so long before a deadline seals it: where each request is urgent, each would have a batch
of its own otherwise, with calls of its own."""


def send_urgent(connection: sa.Connection, rule: DeadlineRule, at: Milliseconds) -> list[str]:
    """Send the batches with a request that another batch, sent later, would bring too late.

    Open ones are sealed, and their ids returned; all of them ignore the submit windows from then on. The aggregator
    calls it whenever it looks for batches to seal.
    """
    watched = store.unsent(connection)
    learned = _learned(connection, watched)
    urgent = [
        batch.id
        for batch in watched
        if _may_be_sent(batch, at) and _move(batch, learned, rule, at) is not Move.POOL
    ]
    return store.send_now(connection, urgent, at) if urgent else []


def leave_at(connection: sa.Connection, rule: DeadlineRule) -> dict[str, Milliseconds]:
    """Return when each open batch with deadlines has to be sent, in milliseconds since the epoch, by its id."""
    opened = [batch for batch in store.unsent(connection) if batch.state is BatchState.OPEN]
    learned = _learned(connection, opened)
    return {batch.id: _sent_at(batch, learned, rule) for batch in opened}


def call_urgent(engine: sa.Engine, rule: DeadlineRule, policy: RealTimePolicy) -> TakenOut:
    """Have the requests called that no batch would bring in time, the most urgent first; return what became of them.

    The `carpool.stage` task calls it, one at a time. Of those in a batch that Anthropic has, these are only the ones
    whose clients pay again. No more are called than the rate limit allows in a minute: the others may still be in time
    with their batch, and cost half. Each chunk is one transaction, and a crash leaves the rest for the next run.
    """
    called = TakenOut()
    if not policy.is_on:
        return called
    with read(engine) as connection:
        unsent, out, at = store.unsent(connection), store.out(connection), now()
        retrying = store.retrying(connection, at, MOST_RETRYING)
        learned = _learned(connection, [*unsent, *retrying])
    for batch in unsent:
        within = rule.calls_within(learned.of(batch.model, at))
        if _call_due(engine, batch, after(at, within), policy, called, call_queue.take_out):
            with write(engine) as connection:
                store.refresh(connection, batch.id)
    _call_retrying(engine, retrying, learned, rule, policy, called)
    for batch in out:
        _call_due(engine, batch, after(at, CALL_SECONDS), policy, called, call_queue.call_again)
    return called


def _call_retrying(
    engine: sa.Engine,
    retrying: Sequence[Retrying],
    learned: LearnedDurations,
    rule: DeadlineRule,
    policy: RealTimePolicy,
    called: TakenOut,
) -> None:
    """Have those called that wait for another try, and that a batch would bring too late even if it were sent now."""
    by_account: defaultdict[str | None, list[str]] = defaultdict(list)
    at = now()
    for one in retrying:
        left = (one.deadline - at) / SECOND
        if decide(left, learned.of(one.model, at), rule) is Move.CALL:
            by_account[one.account].append(one.id)
    for account, ids in by_account.items():
        with read(engine) as connection:
            room = call_queue.room(connection, policy, account)
        while ids and room:  # those that nobody pays for take up no room
            some = call_queue.take_out(engine, ids[:room], policy)
            ids, room = ids[room:], room - len(some.queued)
            called.queued += some.queued
            called.refused += some.refused


def _call_due(
    engine: sa.Engine,
    batch: Watched,
    until: Milliseconds,
    policy: RealTimePolicy,
    called: TakenOut,
    take: Callable[[sa.Engine, Sequence[str], RealTimePolicy], TakenOut],
) -> bool:
    """Have those requests of a batch called that are due until then; return whether any have left it."""
    broke: set[str] = set()
    before = len(called.queued) + len(called.refused)
    for _ in range(MOST_LOOKS if batch.deadline <= until else 0):
        with read(engine) as connection:
            room = call_queue.room(connection, policy, batch.account)
            due = store.due(connection, batch, now(), until, broke, room)
        some = take(engine, list(due), policy)
        called.queued += some.queued
        called.refused += some.refused
        called.dissolved += some.dissolved
        called.over_budget += some.over_budget
        poorer = {due[request_id] for request_id in some.over_budget}
        if not some.queued and not some.refused and poorer <= broke:
            break
        broke |= poorer
    return len(called.queued) + len(called.refused) > before


def _sent_at(batch: Watched, learned: LearnedDurations, rule: DeadlineRule) -> Milliseconds:
    took = rule.sends_within(learned.of(batch.model, Milliseconds(batch.opened_at)))
    latest = after(Milliseconds(batch.deadline), -took)
    return Milliseconds(max(latest, batch.opened_at + LEAST_OPEN))


def _may_be_sent(batch: Watched, at: Milliseconds) -> bool:
    return batch.opened_at + LEAST_OPEN <= at


def _move(batch: Watched, learned: LearnedDurations, rule: DeadlineRule, at: Milliseconds) -> Move:
    return decide((batch.deadline - at) / SECOND, learned.of(batch.model, at), rule)


def _learned(connection: sa.Connection, watched: Sequence[Watched | Retrying]) -> LearnedDurations:
    return durations.load(connection, {one.model for one in watched})
