"""SQL about deliveries under way, and the tries to make them. Times are milliseconds since the epoch.

Each transition is one UPDATE, guarded by the states that it may start from. On PostgreSQL many rows travel as arrays,
several times faster than one statement each; SQLite runs in this process, where one statement each is fast.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool.callbacks import Webhook
from carpool.callbacks import decode as decode_callback
from carpool_worker import transition_log
from carpool_worker.states import DELIVER, GIVE_UP, MAKE_AVAILABLE, RESCUE, SNOOZE, DeliveryState, Transition
from carpool_worker.store.bulk import insert_rows
from carpool_worker.store.deliveries import statements
from carpool_worker.units import SECOND

MAX_TEXT = 1_000
"""Characters kept of an error, or of a receiver's response."""

TRY_COLUMNS = {
    "request_id": "text",
    "attempt": "integer",
    "at": "bigint",
    "milliseconds": "integer",
    "status": "integer",
    "detail": "text",
}


class Claimed(NamedTuple):
    """A delivery that belongs to one courier until its lease ends."""

    request_id: str
    channel: str
    target: str
    attempt: int  # this try's number, from 1
    claim: int  # the number of this claim, which distinguishes it from earlier and later ones
    callback: str  # JSON
    trace: str | None = None  # W3C traceparent of the enqueue


@dataclass(frozen=True, slots=True)
class SendAttempt:
    """When a claimed delivery was sent, how long that took, and the response."""

    at: int
    milliseconds: int = 0
    status: int | None = None  # HTTP's
    detail: str | None = None  # the error, or the start of the response
    counts: bool = True  # False: nothing was sent, so this was not a try


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """The transition of a claimed delivery, with its columns: made by `delivered`, `snoozed` or `given_up` only."""

    claimed: Claimed
    attempt: SendAttempt
    transition: Transition[DeliveryState]
    due_at: int | None = None  # None: when it is recorded
    last_error: str | None = None
    final_column: str | None = None  # of a final state: the column that says since when
    stops_endpoint: bool = False

    @classmethod
    def delivered(cls, claimed: Claimed, attempt: SendAttempt) -> DeliveryOutcome:
        """Return the outcome of a delivery that its receiver took."""
        return cls(claimed, attempt, DELIVER, final_column="delivered_at")

    @classmethod
    def snoozed(
        cls, claimed: Claimed, attempt: SendAttempt, due_at: int, error: str | None
    ) -> DeliveryOutcome:
        """Return the outcome of a delivery that is tried again at `due_at`."""
        return cls(claimed, attempt, SNOOZE, due_at=due_at, last_error=error)

    @classmethod
    def given_up(
        cls, claimed: Claimed, attempt: SendAttempt, error: str | None, *, stops_endpoint: bool = False
    ) -> DeliveryOutcome:
        """Return the outcome of a delivery that is not tried again unless an operator replays it."""
        return cls(
            claimed,
            attempt,
            GIVE_UP,
            last_error=error,
            final_column="discarded_at",
            stops_endpoint=stops_endpoint,
        )


def insert(connection: sa.Connection, rows: Iterable[tuple[str, str]], now: int) -> None:
    """Insert a delivery, due at once, for each (request id, callback JSON); existing ones stay as they are."""
    statements.INSERT.run(connection, [_new(request_id, callback, now) for request_id, callback in rows])


def claim(connection: sa.Connection, limit: int, lease: int, now: int) -> list[Claimed]:
    """Claim up to `limit` available deliveries, oldest first; for `lease` milliseconds no other courier gets them."""
    return [
        Claimed._make(row)
        for row in connection.execute(statements.CLAIM, {"most": limit, "until": now + lease})
    ]


def record(connection: sa.Connection, outcomes: Sequence[DeliveryOutcome], now: int) -> None:
    """Apply the transitions of claimed deliveries in one bulk statement, and insert a row for each try.

    A delivery that was claimed again since, as its lease had ended, stays as it is.
    """
    statements.RECORD.run(connection, [_columns(outcome, now) for outcome in outcomes])
    tries = [_try(outcome) for outcome in outcomes if outcome.attempt.counts]
    insert_rows(connection, "delivery_attempts", TRY_COLUMNS, tries)
    for outcome in outcomes:
        was_tried = outcome.transition is SNOOZE and outcome.attempt.counts
        if was_tried or outcome.transition is GIVE_UP:
            _log_failure(connection, outcome)


def stage(connection: sa.Connection, now: int) -> int:
    """Make retryable deliveries that are due available; return how many."""
    count = connection.execute(statements.STAGE, {"now": now}).rowcount
    transition_log.record_many(
        connection, f"deliveries {MAKE_AVAILABLE.target}", count, move=MAKE_AVAILABLE.verb
    )
    return count


def rescue(connection: sa.Connection, now: int) -> int:
    """Make deliveries whose lease has ended available again; return how many."""
    count = connection.execute(statements.RESCUE, {"now": now}).rowcount
    transition_log.record_many(connection, f"deliveries {RESCUE.target}", count, move=RESCUE.verb)
    return count


def due(connection: sa.Connection, now: int) -> int:
    """Return how many deliveries should be claimed, staged or rescued now."""
    return connection.execute(statements.DUE, {"now": now}).scalar_one()


def next_due(connection: sa.Connection) -> int | None:
    """Return when the next delivery should be claimed, staged or rescued (milliseconds since the epoch), if any."""
    times = [connection.scalar(query) for query in statements.NEXT_DUE]
    return min((at for at in times if at is not None), default=None)


def _new(request_id: str, callback: str, now: int) -> dict[str, Any]:
    to = decode_callback(callback)
    channel, target = ("webhook", to.url) if isinstance(to, Webhook) else ("task", to.name)
    return {"request_id": request_id, "channel": channel, "target": target, "due_at": now}


def _columns(outcome: DeliveryOutcome, now: int) -> dict[str, Any]:
    columns = {
        "key": outcome.claimed.request_id,
        "claim": outcome.claimed.claim,
        "state": outcome.transition.target.value,
        "attempt": outcome.claimed.attempt - (not outcome.attempt.counts),
        "due_at": now if outcome.due_at is None else outcome.due_at,
        "last_error": _text(outcome.last_error),
        "delivered_at": None,
        "discarded_at": None,
    }
    if outcome.final_column:
        columns[outcome.final_column] = now
    return columns


def _try(outcome: DeliveryOutcome) -> tuple[Any, ...]:
    claimed, attempt = outcome.claimed, outcome.attempt
    numbers = (claimed.attempt, attempt.at, attempt.milliseconds, attempt.status)
    return (claimed.request_id, *numbers, _text(attempt.detail))


def _log_failure(connection: sa.Connection, failed: DeliveryOutcome) -> None:
    # Without the reason: what a receiver says, or a library about it, can quote the answer. The table of tries has it.
    claimed, attempt = failed.claimed, failed.attempt
    transition_log.record(
        connection,
        f"delivery {failed.transition.target}",
        logging.WARNING if failed.transition is GIVE_UP else logging.INFO,
        request=claimed.request_id,
        channel=claimed.channel,
        attempt=claimed.attempt,
        status=attempt.status,
        seconds=attempt.milliseconds / SECOND,
    )


def _text(text: str | None) -> str | None:
    # The receiver chooses these characters: PostgreSQL stores no NUL, and UTF-8 has no lone surrogates.
    return text and text[:MAX_TEXT].replace("\0", "\ufffd").encode(errors="replace").decode()
