"""Deliveries: answers on their way to callbacks, those that were given up on, and the URLs that fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.policies.client_batches import PREFIX, stored_id
from carpool_worker.states import DeliveryState
from carpool_worker.store.deliveries import dead_letters, endpoints
from carpool_worker.store.deliveries.coverage import Covering
from carpool_worker.views import lookup
from carpool_worker.views.encoding import Moment

DeliveryFilter = dead_letters.DeliveryFilter
"""Which deliveries."""


@dataclass(frozen=True, kw_only=True)
class DeliveryView:
    """One answer on its way to its callback."""

    request_id: str
    client: str
    channel: str
    target: str  # a URL, or a task's name
    state: DeliveryState
    attempt: int
    due_at: Moment  # retryable: when it is tried again; final: when it became so
    last_error: str | None


@dataclass(frozen=True, kw_only=True)
class TryView:
    """One try to deliver: how long it took in milliseconds, the status, and the error or the start of the answer."""

    attempt: int
    at: Moment
    milliseconds: int
    status: int | None
    detail: str | None


@dataclass(frozen=True, kw_only=True)
class DeliveryDetails(DeliveryView):
    """A delivery and the tries to make it, in order: none, if its receiver accepted it at the first."""

    tries: Sequence[TryView]


@dataclass(frozen=True, kw_only=True)
class EndpointView:
    """A webhook URL that fails, and when and why it was stopped, if it was."""

    url: str
    failing_since: Moment | None
    stopped_at: Moment | None
    reason: str | None
    dead_letters: int


@dataclass(frozen=True, kw_only=True)
class DeadLetters:
    """Deliveries that were given up on: those that can be sent again, and those whose answer is no longer kept."""

    sendable: int
    gone: int


def page(
    connection: sa.Connection,
    wanted: DeliveryFilter,
    limit: int,
    before: str | None = None,
    after: str | None = None,
) -> list[DeliveryView]:
    """Return the newest `limit` of these deliveries, newest last: those before that of a request, or after it.

    Raises:
        UnknownId, AmbiguousId: of `before` or `after`, which may be the beginnings of ids.
    """
    ends = [lookup.delivery_id(connection, named) if named else None for named in (before, after)]
    return [DeliveryView(**_facts(one)) for one in dead_letters.listed(connection, wanted, limit, *ends)]


def find(connection: sa.Connection, named: str) -> DeliveryDetails:
    """Return the delivery of the only request whose id begins like this.

    Raises:
        UnknownId, AmbiguousId.
    """
    request_id = lookup.delivery_id(connection, named)
    [found] = dead_letters.listed(connection, DeliveryFilter(ids=[request_id]), 1)
    tries = [TryView(**one._asdict()) for one in dead_letters.tries(connection, request_id)]
    return DeliveryDetails(**_facts(found), tries=tries)


def failing_endpoints(connection: sa.Connection) -> list[EndpointView]:
    """Return the webhook URLs that fail or are stopped, longest first."""
    dead = dead_letters.counted_by_target(connection)
    return [
        EndpointView(**one._asdict(), dead_letters=dead.get(one.url, 0))
        for one in endpoints.troubles(connection)
    ]


def troubled_endpoints(connection: sa.Connection) -> list[EndpointView]:
    """Return those of them that need an operator: the stopped ones, and those that have failed for minutes."""
    before = now() - endpoints.FAILING
    found = failing_endpoints(connection)
    return [one for one in found if one.stopped_at or (one.failing_since or 0) <= before]


def told_apart(named: Sequence[str]) -> tuple[Sequence[str] | None, Sequence[str] | None]:
    """Return the ids of requests among these, or those of clients' batches, as the tables have them.

    Raises:
        UnknownId: an id of a batch is malformed, or there are both.
    """
    shown = [one for one in named if one.startswith(PREFIX)]
    if not shown:
        return named or None, None
    if len(shown) < len(named):
        raise lookup.UnknownId("name requests or batches, not both")
    found = {one: stored_id(one) for one in shown}
    if malformed := [one for one, id_ in found.items() if id_ is None]:
        raise lookup.UnknownId(f"there is no batch {malformed[0]}")
    return None, [id_ for id_ in found.values() if id_]


def count_dead_letters(connection: sa.Connection, wanted: DeliveryFilter) -> DeadLetters:
    """Return how many of these deliveries were given up on."""
    sendable, gone = dead_letters.counted(connection, replace(wanted, state=None))
    return DeadLetters(sendable=sendable, gone=gone)


def _facts(one: Covering) -> dict[str, Any]:
    facts = one._asdict()
    del facts["delivered_at"], facts["discarded_at"]
    return facts
