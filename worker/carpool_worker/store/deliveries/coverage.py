"""SQL about which delivery covers a request: its row of its own, or else that of its segment of answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool.request_ids import ID_BYTES
from carpool_worker.models.deliveries import REST
from carpool_worker.models.tables import answers, attempts, deliveries, requests
from carpool_worker.states import FINAL_DELIVERY_STATES, DeliveryState
from carpool_worker.store.bulk import insert_rows, one_of
from carpool_worker.store.deliveries import statements
from carpool_worker.store.deliveries.outcomes import MADE, OUT, OWN, WAITS, letters_of, text


class Covering(NamedTuple):
    """The delivery of one request; times are milliseconds since the epoch."""

    request_id: str
    client: str
    channel: str
    target: str
    state: DeliveryState
    attempt: int
    due_at: int  # of a retryable one: when it is tried again; of a final one: since when it is final
    last_error: str | None
    delivered_at: int | None
    discarded_at: int | None


_row = deliveries.c
_is_own = _row.position == requests.c.answer_position
_letter = sa.func.substr(_row.progress, requests.c.answer_position + 1, 1)


def _has(letter: int) -> sa.ColumnElement[bool]:
    return sa.and_(_row.position == REST, _letter == chr(letter))


_is_untold = sa.and_(_row.position == REST, _row.progress.is_(None))
_is_of = sa.and_(
    _row.answer_id == requests.c.answer_id,
    _row.position.in_([requests.c.answer_position, REST]),  # so that the primary key is used
)

COVERS = sa.and_(_is_of, sa.or_(_is_own, _is_untold, _has(WAITS), _has(MADE)))
"""The condition that a row of deliveries covers the answer of a row of requests."""

OWES = sa.and_(_is_of, sa.or_(_is_own, _is_untold, _has(WAITS)))
"""The condition that it does, and has not delivered it unless all in it was delivered."""


def awaiting_delivery(connection: sa.Connection, answer_ids: Collection[int]) -> set[int]:
    """Return those of these segments of answers that have something that is neither delivered nor given up."""
    under_way = sa.select(_row.answer_id).where(_row.state.not_in(FINAL_DELIVERY_STATES))
    return set(connection.scalars(under_way.where(_row.answer_id.in_(answer_ids))))


def is_called_back() -> sa.ColumnElement[bool]:
    """Return the condition that the answer of a row of `requests` has a delivery."""
    return sa.exists().where(COVERS)


def is_undelivered() -> sa.ColumnElement[bool]:
    """Return the condition that the answer of a row of `requests` has a delivery that was not made."""
    return sa.exists().where(OWES, _row.state != DeliveryState.DELIVERED)


def is_claimed() -> sa.ColumnElement[bool]:
    """Return the condition that a courier is delivering the answer of a row of `requests`."""
    return sa.exists().where(OWES, _row.state == DeliveryState.DELIVERING)


def is_delivered() -> sa.ColumnElement[bool]:
    """Return the condition that the answer of a row of `requests` was delivered."""
    at_once = sa.or_(_is_own, _is_untold)
    made = sa.or_(sa.and_(at_once, _row.delivered_at.is_not(None)), _has(MADE))
    return sa.exists().where(_is_of, made)


def of_request(connection: sa.Connection, request_id: str) -> Covering | None:
    """Return the delivery of a request's answer, or None if it has none."""
    return next(iter(of_requests(connection, [request_id])), None)


def of_requests(connection: sa.Connection, ids: Collection[str]) -> list[Covering]:
    """Return the deliveries of these requests' answers, in the order of their answers."""
    query = (
        sa.select(requests.c.id, requests.c.answer_position, *deliveries.c)
        .join(requests, COVERS)
        .where(one_of(connection, requests.c.id, ids))
        .order_by(requests.c.answer_id, requests.c.answer_position)
    )
    return [covering(row, row.id, row.answer_position) for row in connection.execute(query)]


def covering(row: Any, request_id: str, position: int) -> Covering:
    """Return what a row of deliveries says of the request at this position of the segment."""
    is_made = row.position == REST and _letters(row)[position] == MADE
    state = DeliveryState.DELIVERED if is_made else row.state
    delivered_at = row.delivered_at or (row.progress_at if is_made else None)
    return Covering(
        request_id,
        row.client,
        row.channel,
        row.target,
        state,
        1 if is_made else row.attempt,
        delivered_at if delivered_at is not None else row.due_at,
        None if is_made else row.last_error,
        delivered_at,
        row.discarded_at if state is DeliveryState.DISCARDED else None,
    )


def covered(row: Any, ids: bytes) -> list[tuple[int, str]]:
    """Return the position and the id of each request that a row covers; `ids` are those of its segment."""
    if row.position != REST:
        return [(row.position, row.request_id)]
    digits, width = ids.hex(), 2 * ID_BYTES
    return [
        (at, digits[at * width : (at + 1) * width])
        for at, letter in enumerate(_letters(row))
        if letter in (WAITS, MADE)
    ]


def forget(connection: sa.Connection, ids: Collection[str]) -> set[str]:
    """Take requests, which still have their answers' places, out of their deliveries, as if there were none.

    Returns those that a courier is delivering right now: they stay.
    """
    claimed = sa.select(requests.c.id).where(one_of(connection, requests.c.id, ids), is_claimed())
    _take_out(connection, ids, _row.state != DeliveryState.DELIVERING)
    return set(connection.scalars(claimed))


def erase(connection: sa.Connection, ids: Collection[str]) -> int:
    """Erase all tries to deliver these answers, and what was said of them; return how many deliveries are gone.

    Those are the delivered ones, and those given up. One that is still due stays.
    """
    connection.execute(sa.delete(attempts).where(one_of(connection, attempts.c.request_id, ids)))
    taken = _take_out(connection, ids, _row.state.in_(FINAL_DELIVERY_STATES))
    theirs = sa.select(requests.c.answer_id).where(one_of(connection, requests.c.id, ids)).distinct()
    answer_ids = list(connection.scalars(theirs.where(requests.c.answer_id.is_not(None))))
    erring = sa.update(deliveries).where(_row.answer_id.in_(answer_ids), _row.last_error.is_not(None))
    connection.execute(erring.values(last_error=None))
    return taken


def prune(connection: sa.Connection, answer_ids: Collection[int]) -> None:
    """Delete what was delivered of segments of answers that are about to be deleted, in the same transaction.

    What was given up stays, each in a row of its own, as nothing else knows the ids then.
    """
    of_these = _row.answer_id.in_(answer_ids)
    dead = sa.select(deliveries).where(of_these, _row.position == REST, _row.discarded_at.is_not(None))
    for row in connection.execute(dead.with_for_update()).all():
        split_off(connection, row, [at for at, letter in enumerate(_letters(row)) if letter == WAITS])
        connection.execute(
            sa.delete(deliveries).where(_row.answer_id == row.answer_id, _row.position == REST)
        )
    connection.execute(sa.delete(deliveries).where(of_these, _row.state == DeliveryState.DELIVERED))


def split_off(connection: sa.Connection, row: Any, positions: Sequence[int]) -> None:
    """Give deliveries of a segment's row, which is locked and not claimed, rows of their own in the same state."""
    ids = connection.scalar(sa.select(answers.c.ids).where(answers.c.id == row.answer_id)) or b""
    at = {position: ids[position * ID_BYTES : (position + 1) * ID_BYTES] for position in positions}
    same = (row.channel, row.target, row.receiver, row.client, row.state.value, row.attempt, row.due_at, 1)
    own = [
        (row.answer_id, position, id_, *same, row.last_error, row.discarded_at)
        for position, id_ in at.items()
    ]
    insert_rows(connection, "deliveries", statements.INSERTED, own)
    _mark(connection, row, positions, OWN)


def _take_out(connection: sa.Connection, ids: Collection[str], condition: sa.ColumnElement[bool]) -> int:
    query = (
        sa.select(requests.c.answer_position, *deliveries.c)
        .join(requests, COVERS)
        .where(one_of(connection, requests.c.id, ids), condition)
        .order_by(_row.answer_id, _row.position)
        .with_for_update(of=deliveries)
    )
    found = connection.execute(query).all()
    shared: defaultdict[int, list[Any]] = defaultdict(list)
    for row in found:
        if row.position == REST:
            shared[row.answer_id].append(row)
        else:
            _delete(connection, row)
    for rows in shared.values():
        _mark(connection, rows[0], [row.answer_position for row in rows], OUT)
    return len(found)


def _mark(connection: sa.Connection, row: Any, positions: Iterable[int], letter: int) -> None:
    letters = _letters(row)
    for position in positions:
        letters[position] = letter
    pending, delivered = letters.count(WAITS), letters.count(MADE)
    if not pending and not delivered:
        _delete(connection, row)
        return
    same = (_row.answer_id == row.answer_id, _row.position == REST)
    changed = {"pending": pending, "delivered": delivered, "progress": text(letters)}
    connection.execute(sa.update(deliveries).where(*same).values(changed))


def _delete(connection: sa.Connection, row: Any) -> None:
    same = (_row.answer_id == row.answer_id, _row.position == row.position)
    connection.execute(sa.delete(deliveries).where(*same))


def _letters(row: Any) -> bytearray:
    return letters_of(row.progress, row.pending, row.delivered)
