"""Answers on their way to their callbacks: loaded a segment at a time, and written as JSON without being parsed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import closing
from functools import lru_cache
from typing import NamedTuple

import sqlalchemy as sa

from carpool.answers import dollars, message_and_error, rfc3339
from carpool.contract import to_json
from carpool_worker.database import is_postgres, psycopg_connection
from carpool_worker.models import ClientBatch
from carpool_worker.models.tables import answers, batches
from carpool_worker.store.deliveries.outcomes import Claimed
from carpool_worker.store.requests import ended_batches, segments
from carpool_worker.store.requests.rows import REAL_TIME
from carpool_worker.store.requests.segments import Terms, bodies, split

Key = tuple[int, int]
"""Of a row of deliveries: the segment of answers, and the position in it."""


class EndedRequest(NamedTuple):
    """What is known of a request that has ended: columns of `requests`; money in picodollars."""

    id: str
    answer_id: int | None
    segment_id: int
    batch_id: str
    state: str
    outcome: str
    attempt: int
    metadata: str | None
    enqueued_at: int
    finished_at: int
    cost: int | None
    list_price: int | None
    input_tokens: int | None
    output_tokens: int | None
    cache_write_tokens: int | None
    cache_read_tokens: int | None
    trace: str | None
    retries: int | None


class Sendable(NamedTuple):
    """An answer to be sent; without its request, if that is gone or was retried."""

    request_id: str
    position: int
    request: EndedRequest | None
    terms: Terms | None
    claude_id: str | None  # of its batch
    body: bytes
    batch: ClientBatch | None = None  # what is sent is that this has ended

    @property
    def is_gone(self) -> bool:
        """Whether there is nothing to be sent."""
        return self.request is None and self.batch is None

    @property
    def callback(self) -> str:
        """Where an answer goes, as JSON."""
        return (self.terms.callback if self.terms else None) or ""


_COLUMNS = ", ".join(EndedRequest._fields)
_ON_POSTGRES = f"SELECT {_COLUMNS} FROM requests WHERE id = ANY(string_to_array(%s, ',')::uuid[])"  # noqa: S608
_ON_SQLITE = f"SELECT {_COLUMNS} FROM requests WHERE id IN (SELECT id_of(value) FROM json_each(?))"  # noqa: S608


def load(connection: sa.Connection, claims: Sequence[Claimed], most_bytes: int) -> dict[Key, list[Sendable]]:
    """Return what is to be sent of these rows, by their keys: of as many as have `most_bytes`, or a little more.

    A row whose segment of answers is gone has nothing to be sent.
    """
    alike: defaultdict[int, list[Claimed]] = defaultdict(list)
    for one in claims:
        alike[one.answer_id].append(one)
    known = sa.select(answers.c.id, answers.c.ids).where(answers.c.id.in_(list(alike)))
    ids = {row.id: row.ids for row in connection.execute(known)}
    loaded: dict[Key, list[Sendable]] = {one[:2]: [] for one in claims if one.answer_id not in ids}
    places = {one[:2]: _places(one, split(ids[one.answer_id])) for one in claims if one.answer_id in ids}
    found = {row.id: row for row in _rows(connection, [id_ for some in places.values() for _, id_ in some])}
    terms = segments.terms(connection, {row.segment_id for row in found.values()})
    claude_ids = _claude_ids(connection, {row.batch_id for row in found.values()})
    others = {id_ for some in places.values() for _, id_ in some} - found.keys()
    ended = ended_batches.ended(connection, others) if others else {}

    def sendable(position: int, id_: str, answer_id: int, body: bytes) -> Sendable:
        row = found.get(id_)
        if row is None or row.answer_id != answer_id:
            return Sendable(id_, position, None, None, None, body, ended.get(id_))
        return Sendable(id_, position, row, terms[row.segment_id], claude_ids.get(row.batch_id), body)

    size = 0
    for answer_id, all_ in bodies(connection, answers, ids):
        for one in alike[answer_id]:
            loaded[one[:2]] = [sendable(at, id_, answer_id, all_[at]) for at, id_ in places[one[:2]]]
            size += sum(len(all_[at]) for at, _ in places[one[:2]])
        if size > most_bytes:
            break
    return loaded


def answer_json(content: Sendable) -> bytes:
    """Return the contract's Answer as JSON, with the Message as Claude's API sent it.

    Raises:
        ValueError: its request is gone.
    """
    # By hand, as the objects for it would take four times as long.
    request, terms = content.request, content.terms
    if request is None or terms is None:
        raise ValueError("the request is gone")
    message, error = message_and_error(content.body)
    (
        id_,
        _,
        _,
        batch_id,
        state,
        outcome,
        attempt,
        metadata,
        enqueued_at,
        finished_at,
        cost,
        list_price,
        *tokens,
        _,
        _,
    ) = request
    head = (
        f'{{"id":"{id_}","client":"{terms.client}","model":{_text(terms.model)},"state":"{state}",'
        f'"outcome":{_text(outcome)},"message":'
    )
    processing = ',"processing":"real_time"' if batch_id == REAL_TIME else ""
    tail = (
        f',"usage":{_usage(*tokens)},"cost":{_amount(cost)},"list_price":{_amount(list_price)}{processing},'
        f'"metadata":{metadata or "null"},"attempts":{attempt},"batch_id":{_text(content.claude_id)},'
        f'"enqueued_at":"{time_text(enqueued_at)}","finished_at":"{time_text(finished_at)}"}}'
    )
    return b"".join((head.encode(), message, b',"error":', error, tail.encode()))


time_text = lru_cache(maxsize=4_096)(rfc3339)
"""A time (milliseconds since the epoch) as RFC 3339 has it; those of many requests are the same."""


def _rows(connection: sa.Connection, ids: Sequence[str]) -> list[EndedRequest]:
    # Past SQLAlchemy, whose rows would take as long as all the rest.
    if is_postgres(connection):
        with psycopg_connection(connection) as driver, driver.cursor(binary=True) as cursor:
            found = cursor.execute(_ON_POSTGRES, [",".join(ids)]).fetchall()
            return list(map(EndedRequest._make, found))
    with closing(connection.connection.cursor()) as cursor:
        rows = cursor.execute(_ON_SQLITE, (json.dumps(ids),)).fetchall()
    return [EndedRequest._make((row[0].hex(), *row[1:3], row[3].hex(), *row[4:])) for row in rows]


def _claude_ids(connection: sa.Connection, batch_ids: Collection[str]) -> dict[str, str]:
    query = sa.select(batches.c.id, batches.c.claude_id).where(batches.c.id.in_(batch_ids))
    return {row.id: row.claude_id for row in connection.execute(query)}


def _places(claimed: Claimed, ids: Sequence[str]) -> list[tuple[int, str]]:
    return [(position, ids[position]) for position in claimed.positions()]


def _usage(inp: int | None, out: int | None, written: int | None, read: int | None) -> str:
    if inp and out and not written and not read:
        return f'{{"input_tokens":{inp},"output_tokens":{out}}}'
    if inp is None:
        return "null"
    counts = {
        "input_tokens": inp,
        "output_tokens": out,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
    }
    return "{" + ",".join([f'"{name}":{count}' for name, count in counts.items() if count]) + "}"


def _amount(picodollars: int | None) -> str:
    return "null" if picodollars is None else f'"{_dollars(picodollars)}"'


_dollars = lru_cache(maxsize=1_024)(dollars)


@lru_cache(maxsize=1_024)
def _text(text: str | None) -> str:
    return to_json(text).decode()
