"""Finds the one batch, request or delivery that an operator names by its id, or by the beginning of it."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from carpool.contract import REQUEST_ID
from carpool.request_ids import request_id_of
from carpool_worker.exceptions import WorkerError
from carpool_worker.store.reports import ids

MOST_NAMED = 5
"""How many ids an error names if several begin as given."""

ID_DIGITS = ids.DIGITS

MOST_CLIENTS = 1_000
"""Among the requests of how many clients an idempotency key is looked for."""


class UnknownId(WorkerError):
    """Nothing has this id."""


class AmbiguousId(WorkerError):
    """Several ids begin like this."""


def batch_id(connection: sa.Connection, named: str) -> str:
    """Return the batch's id, from that or Anthropic's, or from the beginning of either.

    Raises:
        UnknownId, AmbiguousId.
    """
    return the_one("batch", named, ids.batches_like(connection, named, MOST_NAMED))


def request_id(connection: sa.Connection, named: str) -> str:
    """Return the request's id, from its beginning.

    Raises:
        UnknownId, AmbiguousId.
    """
    return the_one("request", named, ids.requests_like(connection, named, MOST_NAMED))


def delivery_id(connection: sa.Connection, named: str) -> str:
    """Return the id of the request whose answer is delivered, from its beginning.

    Raises:
        UnknownId, AmbiguousId.
    """
    found = ids.deliveries_like(connection, named, MOST_NAMED)
    if not found:
        raise UnknownId(
            f"there is no delivery for a request {named}: it has no callback, or it has not ended yet"
        )
    return the_one("delivery", named, found)


def check_own(connection: sa.Connection, client: str | None, *named: str | None) -> None:
    """Check that each of these is the whole id of a request of this client: what one may name who sees no others.

    The beginning of an id is not looked for, as an error would name whose ids begin like that. Without a client, or
    where nothing is named, everything is right.

    Raises:
        UnknownId.
    """
    if client is None:
        return
    for one in filter(None, named):
        whole = [one] if REQUEST_ID.fullmatch(one) else []
        if ids.owners(connection, whole).get(one) != client:
            raise UnknownId(f"there is no request {one}")


def requests_called(connection: sa.Connection, said: str, client: str | None = None) -> dict[str, str]:
    """Return the requests that somebody may mean, by id, with their clients.

    `said` is an id, or the beginning of one, or an idempotency key: of this client's, or of anybody's.
    """
    clients = [client] if client else ids.clients(connection, MOST_CLIENTS)
    keyed = [request_id_of(one, said) for one in clients]
    found = ids.owners(connection, [*keyed, *ids.requests_like(connection, said.lower(), MOST_NAMED)])
    return {id_: owner for id_, owner in found.items() if client in (None, owner)}


def newest_batches(connection: sa.Connection, prefix: str, limit: int) -> list[str]:
    """Return the ids of the newest batches that begin like this, for a shell to complete."""
    return ids.newest_batches(connection, prefix, limit)


def requests_like(connection: sa.Connection, prefix: str, limit: int) -> list[str]:
    """Return the ids of up to `limit` requests that begin like this, for a shell to complete."""
    return ids.requests_like(connection, prefix, limit)


def the_one(kind: str, named: str, found: Sequence[str]) -> str:
    """Return the only id that was found.

    Raises:
        UnknownId: there is none.
        AmbiguousId: there are several.
    """
    if not found:
        raise UnknownId(f"there is no {kind} {named}")
    if len(found) > 1:
        more = ", …" * (len(found) == MOST_NAMED)
        raise AmbiguousId(f"{named} begins the ids of more than one {kind}: {', '.join(found)}{more}")
    return found[0]
