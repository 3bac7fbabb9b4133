"""Keeps deadlines: reads what is due and how long batches take, lets policies/deadlines.py decide, and acts on it."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from carpool_worker.policies.deadlines import DeadlineRule, Move, decide
from carpool_worker.states import BatchState
from carpool_worker.store import durations
from carpool_worker.store.batches import deadlines as store
from carpool_worker.store.batches.deadlines import Watched
from carpool_worker.store.durations import LearnedDurations
from carpool_worker.units import SECOND, Milliseconds, after

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


def _sent_at(batch: Watched, learned: LearnedDurations, rule: DeadlineRule) -> Milliseconds:
    took = rule.sends_within(learned.of(batch.model, Milliseconds(batch.opened_at)))
    latest = after(Milliseconds(batch.deadline), -took)
    return Milliseconds(max(latest, batch.opened_at + LEAST_OPEN))


def _may_be_sent(batch: Watched, at: Milliseconds) -> bool:
    return batch.opened_at + LEAST_OPEN <= at


def _move(batch: Watched, learned: LearnedDurations, rule: DeadlineRule, at: Milliseconds) -> Move:
    return decide((batch.deadline - at) / SECOND, learned.of(batch.model, at), rule)


def _learned(connection: sa.Connection, watched: Sequence[Watched]) -> LearnedDurations:
    return durations.load(connection, {batch.model for batch in watched})
