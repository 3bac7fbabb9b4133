"""SQL about segments: what requests share, and their params and answers, packed."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool.contract import Envelope, lane_of
from carpool.segments import ERASED, pack, spans, unpack
from carpool_worker.database import is_postgres, psycopg_connection
from carpool_worker.models.tables import params, requests, segments
from carpool_worker.store.bulk import insert_rows

RANDOM_BITS = 20
"""Of a segment's id; the bits above are the milliseconds since the epoch. Two made in the same millisecond are the same
once in a million: then a constraint fails, and the transaction is tried again."""

PAGE = 20
"""Segments read at a time: unpacked, 5 MB at most."""

_minting = threading.Lock()
_newest = 0

COLUMNS = {
    "id": "bigint",
    "client": "text",
    "account": "text",
    "gateway_key": "text",
    "model": "text",
    "lane": "text",
    "headers": "text",
    "callback": "text",
    "reply_to": "text",
    "requests": "integer",
    "keyed": "integer",
    "ids": "bytea",
}
PARAMS = {"id": "bigint", "body": "bytea"}
ANSWERS = {"id": "bigint", "client": "text", "ids": "bytea", "body": "bytea"}


class Place(NamedTuple):
    """Where a body is."""

    segment_id: int
    position: int


class Terms(NamedTuple):
    """What the requests of a segment have in common."""

    id: int
    client: str
    model: str
    callback: str | None  # JSON
    reply_to: str | None
    account: str | None
    gateway_key: str | None


def new_id() -> int:
    """Return an id for a segment, higher than any before of this process; ids sort by the time of their creation."""
    global _newest
    minted = first_id(time.time_ns() // 1_000_000) + random.getrandbits(RANDOM_BITS)
    with _minting:
        _newest = max(_newest + 1, minted)
        return _newest


def first_id(at: int) -> int:
    """Return the lowest id that a segment made at that time (milliseconds since the epoch) can have."""
    return at << RANDOM_BITS


def stored_at(segment_id: int) -> int:
    """Return when a segment was stored, in milliseconds since the epoch."""
    return segment_id >> RANDOM_BITS


def insert(connection: sa.Connection, packed: Iterable[tuple[Sequence[Envelope], bytes]]) -> dict[str, Place]:
    """Insert segments, each given as requests that share their terms and their packed params; return their places.

    Raises:
        sqlalchemy.exc.IntegrityError: an id is taken; the transaction must be rolled back.
    """
    places: dict[str, Place] = {}
    shared, bodies = [], []
    for envelopes, body in packed:
        segment_id = new_id()
        places.update({one.id: Place(segment_id, at) for at, one in enumerate(envelopes)})
        shared.append(_row(segment_id, envelopes))
        bodies.append((segment_id, body))
    insert_rows(connection, "segments", COLUMNS, shared)
    insert_rows(connection, "params", PARAMS, bodies)
    return places


class AnswersSegment(NamedTuple):
    """A segment of `answers` and, in the order of their positions, the requests whose answers it has."""

    id: int
    client: str
    ids: list[str]
    body: bytes


def packed_answers(client: str, results: Sequence[tuple[str, bytes]]) -> Iterator[AnswersSegment]:
    """Yield segments with the results (id, body) of some requests of a client."""
    for span in spans([len(body) for _, body in results]):
        ids, bodies = zip(*results[span], strict=True)
        yield AnswersSegment(new_id(), client, list(ids), pack(bodies))


def insert_answers(connection: sa.Connection, packed: Iterable[AnswersSegment]) -> None:
    """Insert segments of answers.

    Raises:
        sqlalchemy.exc.IntegrityError: an id is taken; the transaction must be rolled back.
    """
    insert_rows(
        connection, "answers", ANSWERS, [(one.id, one.client, joined(one.ids), one.body) for one in packed]
    )


def terms(connection: sa.Connection, ids: Collection[int]) -> dict[int, Terms]:
    """Return the terms of segments, by their ids."""
    query = sa.select(*(segments.c[name] for name in Terms._fields)).where(_in())
    found = connection.execute(query, {"ids": list(ids)})
    return {row.id: Terms._make(row) for row in found}


def bodies(
    connection: sa.Connection, table: sa.Table, ids: Collection[int]
) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the id and the bodies of each of these segments of `params` or `answers` that is kept; few at a time."""
    ordered = sorted(ids)
    for start in range(0, len(ordered), PAGE):
        for segment_id, body in _page(connection, table.name, ordered[start : start + PAGE]):
            yield segment_id, unpack(body)


def body_of(connection: sa.Connection, request_id: str) -> bytes:
    """Return a request's params; b"" if they are no longer kept."""
    query = sa.select(requests.c.position, params.c.body).join(params, params.c.id == requests.c.segment_id)
    found = connection.execute(query.where(requests.c.id == request_id, requests.c.position.is_not(None)))
    row = found.one_or_none()
    return ERASED if row is None else unpack(row.body)[row.position]


def at_places(connection: sa.Connection, table: sa.Table, places: Mapping[str, Place]) -> dict[str, bytes]:
    """Return the bodies at these places of `params` or `answers`, by the same keys, as far as they are kept."""
    wanted: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
    for key, place in places.items():
        wanted[place.segment_id].append((key, place.position))
    found = bodies(connection, table, wanted)
    return {
        key: one
        for segment_id, all_ in found
        for key, position in wanted[segment_id]
        if (one := all_[position])
    }


def joined(ids: Iterable[str]) -> bytes:
    """Return ids as one value, 16 bytes each."""
    return bytes.fromhex("".join(ids))


def split(ids: bytes) -> list[str]:
    """Return the ids of one value."""
    digits = ids.hex()
    return [digits[start : start + 32] for start in range(0, len(digits), 32)]


def _row(segment_id: int, envelopes: Sequence[Envelope]) -> tuple[Any, ...]:
    first = envelopes[0]
    return (
        segment_id,
        first.client,
        first.account,
        first.gateway_key,
        first.model,
        lane_of(first.model, first.headers, first.account),
        json.dumps(first.headers) if first.headers else "{}",
        first.callback.decode() if first.callback else None,
        first.reply_to,
        len(envelopes),
        sum(one.idempotency_key is not None for one in envelopes),
        joined(one.id for one in envelopes),
    )


def _page(connection: sa.Connection, table: str, ids: Sequence[int]) -> Iterable[tuple[int, bytes]]:
    if is_postgres(connection):
        # Through SQLAlchemy the bytes would come as hexadecimal text: twice as long, and to be decoded.
        with psycopg_connection(connection) as driver, driver.cursor(binary=True) as cursor:
            found: list[tuple[int, bytes]] = cursor.execute(
                f"SELECT id, body FROM {table} WHERE id = ANY(%s)",  # noqa: S608
                [list(ids)],
            ).fetchall()
            return found
    marks = ", ".join("?" * len(ids))
    return connection.exec_driver_sql(
        f"SELECT id, body FROM {table} WHERE id IN ({marks})",  # noqa: S608
        tuple(ids),
    ).all()


def _in(column: sa.ColumnElement[int] = segments.c.id) -> sa.ColumnElement[bool]:
    return column.in_(sa.bindparam("ids", expanding=True))
