"""Requests as operators see them: a page of them, in the order in which they were batched, or one of them.

Not in the order of their ids, as one made from an idempotency key has no time in it. Requests that never were in a
batch, as their client's budget has no room for them, come before all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker.database import is_postgres
from carpool_worker.models import Request
from carpool_worker.models.indexes import FAILED, RETRYABLE
from carpool_worker.models.tables import answers, batches, requests, segments, tags
from carpool_worker.states import RequestState
from carpool_worker.store.reports import ids
from carpool_worker.store.requests.results import MOST_CLOCK_SKEW
from carpool_worker.store.requests.rows import REAL_TIME, UNBATCHED, among
from carpool_worker.store.requests.segments import Place, at_places, body_of, split, stored_at

FEW_SEGMENTS = 50
"""The requests of a client with no more segments are looked up by their ids; with more, some are among the newest."""

FEW_TAGGED = 2_000
"""With a tag that no more requests have, they are looked up by their ids; see request_spans.py for what is common."""


@dataclass(frozen=True)
class RequestFilter:
    """Which requests; None is any. Times are milliseconds since the epoch."""

    state: RequestState | None = None
    client: str | None = None
    model: str | None = None
    batch: str | None = None
    tag: str | None = None
    error: str | None = None  # the type of the error that they failed with
    since: int | None = None  # enqueued then or later
    longest_open: int = 0  # milliseconds: how long a batch may be open, and thus be older than its requests
    lowest: str | None = None  # of a batch with this id or a higher one
    highest: str | None = None  # of a batch with this id or a lower one
    is_common: bool = False  # so many have the tag that each request is asked for it

    def conditions(self) -> Iterator[sa.ColumnElement[bool]]:
        """Yield the filter as conditions on requests and their segments."""
        row = requests.c
        equal = [
            (row.state, self.state),
            (row.client, self.client),
            (row.batch_id, self.batch),
            (row.error, self.error),
        ]
        yield from (column == value for column, value in equal if value is not None)
        if self.state is RequestState.RETRYABLE:
            # Few wait for another try: they are found first, whatever the order.
            yield row.id.in_(sa.select(row.id).where(RETRYABLE).correlate(None))
        if self.error is not None:
            yield FAILED
        if self.model is not None:
            yield segments.c.model == self.model
        if self.tag is not None and self.is_common:
            yield _has_tag(self.tag, self.client)
        elif self.tag is not None:
            yield row.id.in_(_tagged(self.tag, self.client))
        if self.lowest is not None:
            yield row.batch_id >= self.lowest
        if self.highest is not None:
            yield row.batch_id <= self.highest
        if self.since is not None:
            oldest = ids.since(self.since - self.longest_open - MOST_CLOCK_SKEW)
            yield row.enqueued_at >= self.since
            yield sa.or_(row.batch_id >= oldest, row.batch_id == UNBATCHED)


class StoredContents(NamedTuple):
    """A request's params and its answer, byte for byte; None: not stored (yet, or any longer)."""

    params: bytes | None
    answer: bytes | None


class FoundRequest(NamedTuple):
    """A request, with what it shares with others of its segment."""

    row: Request
    model: str
    lane: str
    callback: str | None  # JSON
    gateway_key: str | None  # the name of the key that it came with

    @property
    def batched_at(self) -> int:
        """When it was put into its batch, or put aside; milliseconds since the epoch."""
        return self.row.batched_at or stored_at(self.row.segment_id)


_OF = segments.c
_FOUND = sa.select(requests, _OF.model, _OF.lane, _OF.callback, _OF.gateway_key).join_from(
    requests, segments, segments.c.id == requests.c.segment_id
)


def page(
    connection: sa.Connection,
    wanted: RequestFilter,
    limit: int,
    before: Request | None = None,
    after: Request | None = None,
    *,
    oldest: bool = False,
) -> list[FoundRequest]:
    """Return the newest `limit` of these requests, newest last; or those just before, or just after, one of them.

    With `oldest`, the oldest of them instead.
    """
    query = _FOUND.where(*wanted.conditions(), *_few_of(connection, wanted.client))
    found: list[FoundRequest] = []
    forward = oldest or after is not None
    for part, batch_id in _parts(query, wanted.model)[:: -1 if forward else 1]:
        some = _ordered(connection, part, batch_id, before, after, forward).limit(limit - len(found))
        found += [_found(one) for one in connection.execute(some)]
        if len(found) == limit:
            break
    return found if forward else found[::-1]


def _parts(query: sa.Select[Any], model: str | None) -> list[tuple[sa.Select[Any], sa.ColumnElement[str]]]:
    """Return the query in parts, the newer requests first, each with its column of the batch's id.

    A model's requests are found by its batches, of which there are far fewer; apart from those that never were in one.
    """
    row = requests.c
    if model is None:
        return [(query, row.batch_id)]
    batched = query.join(batches, batches.c.id == row.batch_id).where(batches.c.model == model)
    called, never = (query.where(row.batch_id == none) for none in (REAL_TIME, UNBATCHED))
    return [(called, row.batch_id), (batched, batches.c.id), (never, row.batch_id)]


def _ordered(
    connection: sa.Connection,
    query: sa.Select[Any],
    batch_id: sa.ColumnElement[str],
    before: Request | None,
    after: Request | None,
    forward: bool,
) -> sa.Select[Any]:
    row = requests.c
    if after is not None:
        later = sa.or_(batch_id > after.batch_id, row.id > after.id)
        query = query.where(batch_id >= after.batch_id, later)
    if forward:
        return query.order_by(batch_id, row.id)
    if before is not None:
        earlier = sa.or_(batch_id < before.batch_id, row.id < before.id)
        query = query.where(batch_id <= before.batch_id, earlier)
    # Without the cast, PostgreSQL would look for a batch's requests by reading all ids backwards.
    id_ = sa.cast(row.id, sa.Text).collate("C") if is_postgres(connection) else row.id
    return query.order_by(batch_id.desc(), id_.desc())


def _few_of(connection: sa.Connection, client: str | None) -> Iterator[sa.ColumnElement[bool]]:
    if client is None:
        return
    row = segments.c
    theirs = sa.select(row.ids).where(row.client == client).limit(FEW_SEGMENTS + 1)
    found = list(connection.scalars(theirs))
    if len(found) <= FEW_SEGMENTS:
        yield among(connection, [id_ for ids in found for id_ in split(ids)])


def get(connection: sa.Connection, request_id: str) -> FoundRequest:
    """Return the request; there must be one."""
    return _found(connection.execute(_FOUND.where(requests.c.id == request_id)).one())


def tags_of(connection: sa.Connection, request_id: str) -> list[str]:
    """Return the tags that its client declared for a request, in alphabetical order."""
    found = sa.select(tags.c.tag).where(tags.c.request_id == request_id)
    return sorted(connection.scalars(found))


def contents(connection: sa.Connection, request: Request) -> StoredContents:
    """Return the stored params and answer of a request; only their two segments are unpacked."""
    answer = None
    if request.answer_id is not None and request.answer_position is not None:
        place = Place(request.answer_id, request.answer_position)
        answer = at_places(connection, answers, {request.id: place}).get(request.id)
    return StoredContents(body_of(connection, request.id) or None, answer)


def answers_to(connection: sa.Connection, request_ids: Sequence[str]) -> dict[str, bytes]:
    """Return the stored answers of these requests, by their ids, byte for byte."""
    row = requests.c
    query = sa.select(row.id, row.answer_id, row.answer_position)
    found = connection.execute(query.where(row.id.in_(request_ids), row.answer_id.is_not(None)))
    return at_places(connection, answers, {id_: Place(*place) for id_, *place in found})


def _tagged(tag: str, client: str | None) -> sa.Select[Any]:
    """Return the ids of the requests with a tag, of one client or of all."""
    found = sa.select(tags.c.request_id).where(tags.c.tag == tag)
    if client is not None:
        return found.where(tags.c.client == client)
    return found.where(tags.c.client.in_(_clients_with_tags()))


def _has_tag(tag: str, client: str | None) -> sa.ColumnElement[bool]:
    of = tags.c
    found = sa.exists().where(of.request_id == requests.c.id, of.tag == tag)
    return found if client is None else found.where(of.client == client)


def is_common(connection: sa.Connection, tag: str, client: str | None) -> bool:
    """Return whether more than FEW_TAGGED requests have a tag, of one client or of all."""
    some = _tagged(tag, client).limit(FEW_TAGGED + 1)
    return len(list(connection.scalars(some))) > FEW_TAGGED


def _clients_with_tags() -> sa.Select[Any]:
    # The index begins with the client: from each, one step leads to the next, however many tags each has.
    each = sa.select(sa.func.min(tags.c.client).label("client")).cte("each_client", recursive=True)
    following = sa.select(sa.func.min(tags.c.client)).where(tags.c.client > each.c.client).scalar_subquery()
    each = each.union_all(sa.select(following).where(each.c.client.is_not(None)))
    return sa.select(each.c.client)


def _found(row: sa.Row[Any]) -> FoundRequest:
    values = dict(row._mapping)
    terms = [values.pop(name) for name in FoundRequest._fields[1:]]
    values["request_metadata"] = values.pop("metadata")
    return FoundRequest(Request(**values), *terms)
