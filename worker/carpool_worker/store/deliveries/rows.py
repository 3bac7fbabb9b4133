"""SQL about deliveries under way, and the tries to make them. Times are milliseconds since the epoch.

A row is about all answers of a segment, or about one of them (see models/deliveries.py). Each transition is one UPDATE,
guarded by the states that it may start from. Receivers and clients take turns to be claimed: what is due to one of them
is not read while another's is looked for.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.models.deliveries import REST
from carpool_worker.outside_text import cleaned
from carpool_worker.states import (
    CLAIM,
    DELIVER,
    GIVE_UP,
    MAKE_AVAILABLE,
    RESCUE,
    STOP,
    DeliveryState,
    Transition,
)
from carpool_worker.store.bulk import insert_rows
from carpool_worker.store.deliveries import receivers, statements
from carpool_worker.store.deliveries.outcomes import Claimed, ClaimOutcome, DeliveryOutcome
from carpool_worker.store.deliveries.receivers import Destination

MAX_TEXT = 1_000
"""Characters kept of an error, or of a receiver's response."""


class NewDelivery(NamedTuple):
    """A segment of answers that has a callback."""

    answer_id: int
    client: str
    callback: str  # JSON
    requests: int


class Turn(NamedTuple):
    """A receiver and a client to whose answers something is due."""

    receiver: str
    client: str


FIRST = Turn("", "")
"""Before all others."""


def insert(connection: sa.Connection, new: Iterable[NewDelivery], now: int) -> None:
    """Insert the deliveries of segments of answers, due at once."""
    rows = [
        _new(one.answer_id, REST, None, receivers.destination(one.callback), one.client, one.requests, now)
        for one in new
    ]
    insert_rows(connection, "deliveries", statements.INSERTED, rows)


def turns(
    connection: sa.Connection,
    after: Turn,
    limit: int,
    now: int,
    busy: Collection[str] = (),
    busy_turns: Collection[Turn] = (),
) -> list[Turn]:
    """Return up to `limit` turns that follow `after` and have something due, without these and parked receivers."""
    bounds = {"receiver": after.receiver, "client": after.client, "limit": limit, "now": now}
    without = {"busy": list(busy), "busy_turns": list(busy_turns)}
    found = connection.execute(statements.TURNS[connection.dialect.name], bounds | without)
    return [Turn._make(row) for row in found]


def claim(connection: sa.Connection, given: Sequence[Turn], each: int, until: int) -> list[Claimed]:
    """Claim up to `each` available rows of each of these turns, oldest first; until then no other courier gets them."""
    return statements.claim(connection, given, each, until) if given else []


def record(connection: sa.Connection, outcomes: Sequence[ClaimOutcome], now: int) -> None:
    """Apply the transitions of claimed rows in one statement; insert the rows of single requests, and the tries.

    A row that was claimed again since, as its lease had ended, stays as it is.
    """
    ordered = sorted(outcomes, key=lambda one: one.claimed[:2])  # as others do who lock several
    if not ordered:
        return
    still_ours = statements.record(connection, [_columns(one, now) for one in ordered])
    apart = [
        _apart(outcome.claimed, one, now)
        for outcome in ordered
        if outcome.claimed[:2] in still_ours
        for one in outcome.apart
    ]
    insert_rows(connection, "deliveries", statements.INSERTED, apart)
    tries = [_try(outcome.claimed, one) for outcome in ordered for one in outcome.tries]
    insert_rows(connection, "delivery_attempts", statements.TRIED, tries)
    for outcome in ordered:
        _log(connection, outcome)


def give_up_stopped(connection: sa.Connection, url: str, reason: str, now: int) -> None:
    """Give up what is available for a webhook URL that is stopped, among the first rows of its receiver.

    The others are claimed sooner or later, and each claim that finds the URL stopped calls this again.
    """
    given = {"host": receivers.host_and_port(url), "url": url, "reason": text(reason), "now": now}
    count = sum(connection.scalars(statements.GIVE_UP_STOPPED, given))
    transition_log.record_many(
        connection, f"deliveries {STOP.target}", count, logging.WARNING, move=STOP.verb, channel="webhook"
    )


def stage(connection: sa.Connection, now: int) -> int:
    """Make some retryable rows that are due available; return how many deliveries that are, 0 if none was left."""
    receivers.forget_past(connection, now)
    return _make_available(connection, MAKE_AVAILABLE, now)


def rescue(connection: sa.Connection, now: int) -> int:
    """Make some rows whose lease has ended available again; return how many deliveries that are, 0 if none was left."""
    return _make_available(connection, RESCUE, now)


def due(connection: sa.Connection, now: int) -> bool:
    """Return whether anything could be claimed, staged or rescued now."""
    if turns(connection, FIRST, 1, now):
        return True
    return any(connection.scalar(query, {"now": now}) for query in statements.OVERDUE.values())


def next_due(connection: sa.Connection, now: int) -> int | None:
    """Return when the next delivery should be claimed, staged or rescued (milliseconds since the epoch), if any."""
    if turns(connection, FIRST, 1, now):
        return now
    times = [connection.scalar(query) for query in statements.NEXT_DUE]
    times.append(receivers.next_unparked(connection))
    return min((at for at in times if at is not None), default=None)


def text(words: str | None) -> str | None:
    """Return what a receiver said as both databases can store it."""
    return words and cleaned(words, MAX_TEXT)


def _make_available(connection: sa.Connection, transition: Transition[DeliveryState], now: int) -> int:
    count: int = sum(connection.scalars(statements.MAKE_AVAILABLE[transition], {"now": now}))
    event = f"deliveries {transition.target}"
    transition_log.record_many(connection, event, count, move=transition.verb)
    return count


def _new(
    answer_id: int,
    position: int,
    request_id: str | None,
    to: Destination,
    client: str,
    pending: int,
    due_at: int,
    *,
    state: DeliveryState = DeliveryState.AVAILABLE,
    attempt: int = 0,
    last_error: str | None = None,
    discarded_at: int | None = None,
) -> tuple[Any, ...]:
    id_ = None if request_id is None else bytes.fromhex(request_id)
    where = (answer_id, position, id_, *to, client)
    return (*where, state.value, attempt, due_at, pending, text(last_error), discarded_at)


def _apart(claimed: Claimed, one: DeliveryOutcome, now: int) -> tuple[Any, ...]:
    return _new(
        claimed.answer_id,
        one.position,
        one.request_id,
        Destination(claimed.channel, claimed.target, claimed.receiver),
        claimed.client,
        1,
        now if one.due_at is None else one.due_at,
        state=one.transition.target,
        attempt=int(one.attempt.counts),
        last_error=one.last_error,
        discarded_at=now if one.transition is GIVE_UP else None,
    )


def _columns(outcome: ClaimOutcome, now: int) -> dict[str, Any]:
    claimed, transition = outcome.claimed, outcome.transition
    state = CLAIM.target if transition is None else transition.target
    due_at = now if outcome.due_at is None and transition is not None else outcome.due_at
    return {
        "answer_id": claimed.answer_id,
        "position": claimed.position,
        "claims": claimed.claim,
        "state": state.value,
        "attempt": claimed.attempt - 1 + (claimed.is_own and bool(outcome.tries)),
        "pending": outcome.pending,
        "delivered": outcome.delivered,
        "progress": outcome.progress,
        "progress_at": now if outcome.progress else None,
        "due_at": due_at,
        "last_error": text(outcome.last_error),
        "delivered_at": now if transition is DELIVER else None,
        "discarded_at": now if transition is GIVE_UP else None,
    }


def _try(claimed: Claimed, one: DeliveryOutcome) -> tuple[Any, ...]:
    attempt = one.attempt
    numbers = (claimed.attempt, attempt.at, attempt.milliseconds, attempt.status)
    return (bytes.fromhex(one.request_id), *numbers, text(attempt.detail))


def _log(connection: sa.Connection, outcome: ClaimOutcome) -> None:
    claimed = outcome.claimed
    failed = [one for one in outcome.tries if one.transition is not DELIVER]
    refused = [one for one in outcome.apart if not one.attempt.counts]
    for one in (*failed, *refused):
        _log_failure(connection, claimed, one)
    if outcome.transition is GIVE_UP and not (claimed.is_own and failed):
        event, channel = f"deliveries {GIVE_UP.target}", claimed.channel
        transition_log.record_many(
            connection, event, outcome.pending, logging.WARNING, move=GIVE_UP.verb, channel=channel
        )


def _log_failure(connection: sa.Connection, claimed: Claimed, failed: DeliveryOutcome) -> None:
    # One line for all of a transaction that failed alike, as a receiver that is down fails thousands. Which those are,
    # and why, is in the table of tries: what a receiver says, or a library about it, can quote the answer.
    transition_log.record_many(
        connection,
        f"deliveries {failed.transition.target}",
        1,
        logging.WARNING if failed.transition is GIVE_UP else logging.INFO,
        move=failed.transition.verb,
        channel=claimed.channel,
        receiver=claimed.receiver,
        status=failed.attempt.status,
    )
