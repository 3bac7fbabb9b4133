"""The SQL of deliveries on their way, and of the tries to deliver them. Times are milliseconds since the epoch.

Whoever moves rows does it with one UPDATE guarded by the transition's source states. On PostgreSQL many rows travel
as arrays, several times faster than a statement each; SQLite is in this process, where a statement each is fast.
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
from carpool_worker.states import DELIVER, GIVE_UP, MAKE_AVAILABLE, RESCUE, DeliveryState
from carpool_worker.store.bulk import insert_rows
from carpool_worker.store.deliveries import statements

MAX_TEXT = 1_000
"""Characters kept of an error, or of a receiver's answer."""

TRY_COLUMNS = {
    "request_id": "text",
    "attempt": "integer",
    "at": "bigint",
    "milliseconds": "integer",
    "status": "integer",
    "detail": "text",
}


class Claimed(NamedTuple):
    """A delivery that this courier holds until its lease ends."""

    request_id: str
    channel: str
    target: str
    attempt: int  # this try's number, from 1
    claim: int  # how often it has been claimed by now: tells this courier from those before and after it
    callback: str  # JSON
    trace: str | None = None  # W3C traceparent of the enqueue


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """What became of a claimed delivery: delivered, retryable from `due_at` on, or discarded."""

    claimed: Claimed  # what a newer courier claimed since is left alone
    state: DeliveryState
    at: int  # when it was tried
    due_at: int | None = None
    error: str | None = None
    milliseconds: int = 0
    status: int | None = None  # HTTP's
    detail: str | None = None
    tried: bool = True  # False: nothing was sent, and it does not count as a try
    stops_endpoint: bool = False


def insert(connection: sa.Connection, rows: Iterable[tuple[str, str]], now: int) -> None:
    """Make a delivery, due at once, for each (request id, callback JSON); one that exists stays as it is."""
    statements.INSERT.run(connection, [_new(request_id, callback, now) for request_id, callback in rows])


def claim(connection: sa.Connection, limit: int, lease: int, now: int) -> list[Claimed]:
    """Take up to `limit` available deliveries, oldest first, for `lease` milliseconds; nobody else gets them."""
    return [
        Claimed._make(row)
        for row in connection.execute(statements.CLAIM, {"most": limit, "until": now + lease})
    ]


def record(connection: sa.Connection, outcomes: Sequence[DeliveryOutcome], now: int) -> None:
    """Write what became of claimed deliveries, and a row for each try.

    A delivery whose lease ended and that was claimed anew since stays as it is.
    """
    statements.RECORD.run(connection, [_move(outcome, now) for outcome in outcomes])
    tries = [_try(outcome) for outcome in outcomes if outcome.tried]
    insert_rows(connection, "delivery_attempts", TRY_COLUMNS, tries)
    for outcome in outcomes:
        if outcome.state is not DELIVER.target and (outcome.tried or outcome.state is GIVE_UP.target):
            _tell(connection, outcome)


def stage(connection: sa.Connection, now: int) -> int:
    """Make retryable deliveries available whose time has come; return how many."""
    count = connection.execute(statements.STAGE, {"now": now}).rowcount
    transition_log.record_many(
        connection, f"deliveries {MAKE_AVAILABLE.target}", count, move=MAKE_AVAILABLE.verb
    )
    return count


def rescue(connection: sa.Connection, now: int) -> int:
    """Make deliveries available again whose courier let its lease end; return how many."""
    count = connection.execute(statements.RESCUE, {"now": now}).rowcount
    transition_log.record_many(connection, f"deliveries {RESCUE.target}", count, move=RESCUE.verb)
    return count


def due(connection: sa.Connection, now: int) -> int:
    """Count the deliveries that somebody should move now: a courier, the stager or the rescuer."""
    return connection.execute(statements.DUE, {"now": now}).scalar_one()


def _new(request_id: str, callback: str, now: int) -> dict[str, Any]:
    to = decode_callback(callback)
    channel, target = ("webhook", to.url) if isinstance(to, Webhook) else ("task", to.name)
    return {"request_id": request_id, "channel": channel, "target": target, "due_at": now}


def _move(outcome: DeliveryOutcome, now: int) -> dict[str, Any]:
    return {
        "key": outcome.claimed.request_id,
        "claim": outcome.claimed.claim,
        "state": outcome.state.value,
        "attempt": outcome.claimed.attempt - (not outcome.tried),
        "due_at": outcome.due_at if outcome.due_at is not None else now,
        "last_error": _text(outcome.error),
        "delivered_at": now if outcome.state is DELIVER.target else None,
        "discarded_at": now if outcome.state is GIVE_UP.target else None,
    }


def _try(outcome: DeliveryOutcome) -> tuple[Any, ...]:
    numbers = (outcome.claimed.attempt, outcome.at, outcome.milliseconds, outcome.status)
    return (outcome.claimed.request_id, *numbers, _text(outcome.detail))


def _tell(connection: sa.Connection, failed: DeliveryOutcome) -> None:
    # Not why: what a receiver, or a library on its behalf, says can quote the answer. The tries in the table have it.
    level = logging.WARNING if failed.state is GIVE_UP.target else logging.INFO
    claimed, seconds = failed.claimed, failed.milliseconds / 1_000
    of = {"request": claimed.request_id, "channel": claimed.channel, "attempt": claimed.attempt}
    transition_log.record(
        connection, f"delivery {failed.state}", level, **of, status=failed.status, seconds=seconds
    )


def _text(text: str | None) -> str | None:
    # A receiver chooses these characters: PostgreSQL takes no NUL, and UTF-8 has no lone surrogates.
    return text and text[:MAX_TEXT].replace("\0", "\ufffd").encode(errors="replace").decode()
