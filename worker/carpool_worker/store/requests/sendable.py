"""Answers on their way to their callbacks: loaded a segment at a time, and written as JSON without being parsed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import sqlalchemy as sa

from carpool.answers import dollars, message_and_error, rfc3339
from carpool.contract import to_json
from carpool_worker.models.tables import answers, batches, requests, segments
from carpool_worker.store.deliveries.outcomes import Claimed
from carpool_worker.store.requests.rows import among
from carpool_worker.store.requests.segments import bodies, split

Key = tuple[int, int]
"""Of a row of deliveries: the segment of answers, and the position in it."""


class EndedRequest(NamedTuple):
    """What is known of a request that has ended; money in picodollars."""

    id: str
    client: str
    model: str
    state: str
    outcome: str
    attempt: int
    metadata: str | None
    enqueued_at: int
    finished_at: int
    cost: int | None
    list_price: int | None
    claude_id: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_write_tokens: int | None
    cache_read_tokens: int | None
    answer_id: int
    callback: str | None
    trace: str | None


@dataclass(slots=True)
class Sendable:
    """An answer to be sent; without facts, if its request is gone or was retried."""

    request_id: str
    position: int
    facts: EndedRequest | None
    body: bytes


# States as text and dollars as stored: turning them into objects would cost as much as all the rest.
_FACTS = (
    sa.select(
        *(requests.c[name] for name in ("id", "client")),
        segments.c.model,
        sa.type_coerce(requests.c.state, sa.Text),
        *(requests.c[name] for name in ("outcome", "attempt", "metadata", "enqueued_at", "finished_at")),
        *(sa.type_coerce(requests.c[name], sa.BigInteger) for name in ("cost", "list_price")),
        batches.c.claude_id,
        *(requests.c[name] for name in ("input_tokens", "output_tokens")),
        *(requests.c[name] for name in ("cache_write_tokens", "cache_read_tokens", "answer_id")),
        segments.c.callback,
        requests.c.trace,
    )
    .join_from(requests, segments, segments.c.id == requests.c.segment_id)
    .join(batches, batches.c.id == requests.c.batch_id, isouter=True)
)


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
    wanted = [id_ for some in places.values() for _, id_ in some]
    found = {
        row[0]: EndedRequest._make(row) for row in connection.execute(_FACTS.where(among(connection, wanted)))
    }
    size = 0
    for answer_id, all_ in bodies(connection, answers, ids):
        for one in alike[answer_id]:
            loaded[one[:2]] = [
                Sendable(id_, position, _still(found.get(id_), answer_id), all_[position])
                for position, id_ in places[one[:2]]
            ]
            size += sum(len(all_[position]) for position, _ in places[one[:2]])
        if size > most_bytes:
            break
    return loaded


def answer_json(facts: EndedRequest, body: bytes) -> bytes:
    """Return the contract's Answer as JSON, with the Message as Claude's API sent it."""
    # By hand, as the objects for it would take four times as long.
    message, error = message_and_error(body)
    head = (
        f'{{"id":"{facts.id}","client":"{facts.client}","model":{_text(facts.model)},"state":"{facts.state}",'
        f'"outcome":{_text(facts.outcome)},"message":'
    )
    tail = (
        f',"usage":{_usage(facts)},"cost":{_amount(facts.cost)},"list_price":{_amount(facts.list_price)},'
        f'"metadata":{facts.metadata or "null"},"attempts":{facts.attempt},"batch_id":{_text(facts.claude_id)},'
        f'"enqueued_at":"{rfc3339(facts.enqueued_at)}","finished_at":"{rfc3339(facts.finished_at)}"}}'
    )
    return b"".join((head.encode(), message, b',"error":', error, tail.encode()))


def _places(claimed: Claimed, ids: Sequence[str]) -> list[tuple[int, str]]:
    return [(position, ids[position]) for position in claimed.positions()]


def _still(facts: EndedRequest | None, answer_id: int) -> EndedRequest | None:
    return facts if facts is not None and facts.answer_id == answer_id else None


def _usage(facts: EndedRequest) -> str:
    if facts.input_tokens is None:
        return "null"
    counts = {
        "input_tokens": facts.input_tokens,
        "output_tokens": facts.output_tokens,
        "cache_creation_input_tokens": facts.cache_write_tokens,
        "cache_read_input_tokens": facts.cache_read_tokens,
    }
    return "{" + ",".join([f'"{name}":{count}' for name, count in counts.items() if count]) + "}"


def _amount(picodollars: int | None) -> str:
    return "null" if picodollars is None else f'"{_dollars(picodollars)}"'


_dollars = lru_cache(maxsize=1_024)(dollars)


@lru_cache(maxsize=1_024)
def _text(text: str | None) -> str:
    return to_json(text).decode()
