"""SQL about calls in real time: what became of each. Each move is one guarded UPDATE.

A transaction locks a request before its call, wherever it needs both.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.models import RealTimeCall
from carpool_worker.models.tables import real_time_calls
from carpool_worker.states import (
    ANSWER,
    CALL_AGAIN,
    CANCEL_CALL,
    LOSE,
    REFUSE_CALL,
    RETURN,
    CallState,
    Transition,
)
from carpool_worker.units import DOLLAR, Milliseconds, Picodollars

row = real_time_calls.c


class KnownCall(NamedTuple):
    """A call as the tables have it."""

    request_id: str
    round: int
    state: CallState
    batch_id: str | None
    added: int  # picodollars
    caller: str | None = None
    suspected_at: int | None = None


def of_request(connection: sa.Connection, request_id: str) -> list[RealTimeCall]:
    """Return the calls for a request, in the order in which they were queued."""
    theirs = sa.select(real_time_calls).where(row.request_id == request_id).order_by(row.round)
    return [RealTimeCall(**one._mapping) for one in connection.execute(theirs)]


def lock(connection: sa.Connection, request_id: str, round_: int) -> KnownCall | None:
    """Return a call, locked until the transaction ends; its request must be locked before."""
    found = known().where(row.request_id == request_id, row.round == round_).with_for_update()
    one = connection.execute(found).one_or_none()
    return None if one is None else KnownCall._make(one)


def answer(
    connection: sa.Connection,
    call: KnownCall,
    *,
    claude_id: str | None,
    cost: Picodollars | None,
    at: Milliseconds,
) -> bool:
    """Record that a call was answered; the cost is in picodollars."""
    return _finish(connection, ANSWER, call, at, claude_id=claude_id, cost=_dollars(cost), last_error=None)


def refuse(connection: sa.Connection, call: KnownCall, error: str, at: Milliseconds) -> bool:
    """Record that a call was refused for good."""
    return _finish(connection, REFUSE_CALL, call, at, last_error=error)


def lose(connection: sa.Connection, call: KnownCall, error: str, at: Milliseconds) -> bool:
    """Record that nobody knows what became of a call."""
    return _finish(connection, LOSE, call, at, last_error=error)


def return_(connection: sa.Connection, call: KnownCall, why: str, at: Milliseconds) -> bool:
    """Record that a call is not made, as its request may be answered by a batch."""
    return _finish(connection, RETURN, call, at, last_error=why)


def cancel(connection: sa.Connection, call: KnownCall, at: Milliseconds) -> bool:
    """Record that a call is not made, as its request has ended."""
    return _finish(connection, CANCEL_CALL, call, at)


def postpone(connection: sa.Connection, call: KnownCall, error: str, due_at: Milliseconds) -> bool:
    """Make a call available again that was certainly not made."""
    free = {"caller": None, "lease_until": None, "calling_at": None}
    return move(connection, CALL_AGAIN, call.request_id, call.round, due_at=due_at, last_error=error, **free)


def answer_late(connection: sa.Connection, call: KnownCall, cost: Picodollars | None, claude_id: str) -> bool:
    """Record the cost of a lost call whose answer came after all; return False if that is known already."""
    late = sa.update(real_time_calls).where(row.request_id == call.request_id, row.round == call.round)
    unknown = row.state == CallState.LOST, row.claude_id.is_(None)
    billed = late.where(*unknown).values(cost=_dollars(cost), claude_id=claude_id)
    return bool(connection.execute(billed).rowcount)


def known() -> sa.Select[Any]:
    """Return the query of calls as KnownCall has them."""
    added = sa.type_coerce(row.added, sa.BigInteger)
    return sa.select(row.request_id, row.round, row.state, row.batch_id, added, row.caller, row.suspected_at)


def _finish(
    connection: sa.Connection,
    transition: Transition[CallState],
    call: KnownCall,
    at: Milliseconds,
    **values: Any,
) -> bool:
    ended = {"finished_at": at, "lease_until": None}
    return move(connection, transition, call.request_id, call.round, **ended, **values)


def move(
    connection: sa.Connection,
    transition: Transition[CallState],
    request_id: str,
    round_: int,
    **values: Any,
) -> bool:
    """Make one transition of a call, and set columns with it; return False if it is in none of its states."""
    guarded = sa.update(real_time_calls).where(
        row.request_id == request_id, row.round == round_, row.state.in_(transition.sources)
    )
    moved = connection.execute(guarded.values(state=transition.target, **values)).rowcount
    if moved:
        error = values.get("last_error")
        transition_log.record(
            connection, f"call {transition.target}", request=request_id, move=transition.verb, error=error
        )
    return bool(moved)


def _dollars(amount: Picodollars | None) -> Decimal | None:
    return None if amount is None else Decimal(amount) / DOLLAR
