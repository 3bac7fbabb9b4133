"""The batches that clients made at the gateway: what their clients know of them, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from carpool_worker.models import ClientBatch
from carpool_worker.policies.client_batches import ProcessingStatus, shown_id, status, stored_id
from carpool_worker.states import OUTCOMES
from carpool_worker.store.client_batches import rows
from carpool_worker.views.encoding import Moment
from carpool_worker.views.lookup import UnknownId


@dataclass(frozen=True, kw_only=True)
class ClientBatchView:
    """A client's batch, by the id that its client knows (msgbatch_…); money in dollars, for what has ended of it."""

    id: str
    client: str
    key: str | None  # the name of the gateway's key that made it
    status: ProcessingStatus
    requests: int
    processing: int
    outcomes: Mapping[str, int]  # of those that have ended
    created_at: Moment
    expires_at: Moment
    cancel_initiated_at: Moment | None
    ended_at: Moment | None
    archived_at: Moment | None  # from then on it has no results
    cost: Decimal
    list_price: Decimal


def page(
    connection: sa.Connection, client: str, limit: int, *, before: str | None = None, after: str | None = None
) -> list[ClientBatchView]:
    """Return a client's newest batches, or those just before or just after one, newest last.

    Raises:
        UnknownId: `before` or `after` is no id of a batch.
    """
    ends = {"older_than": before and _stored(before), "newer_than": after and _stored(after)}
    return [_view(one) for one in reversed(rows.page(connection, client, limit, **ends).batches)]


def find(connection: sa.Connection, client: str, shown: str) -> ClientBatchView:
    """Return a client's batch.

    Raises:
        UnknownId: there is none with this id, or it is another client's.
    """
    found = rows.get(connection, client, _stored(shown))
    if found is None:
        raise UnknownId(f"there is no batch {shown}")
    return _view(found)


def _stored(shown: str) -> str:
    if (stored := stored_id(shown)) is None:
        raise UnknownId(f"there is no batch {shown}")
    return stored


def _view(batch: ClientBatch) -> ClientBatchView:
    return ClientBatchView(
        id=shown_id(batch.id),
        client=batch.client,
        key=batch.gateway_key,
        status=status(
            is_canceling=batch.cancel_initiated_at is not None, has_ended=batch.ended_at is not None
        ),
        requests=batch.request_count,
        processing=batch.processing,
        outcomes={name: getattr(batch, name) for name in OUTCOMES},
        created_at=batch.created_at,
        expires_at=batch.expires_at,
        cancel_initiated_at=batch.cancel_initiated_at,
        ended_at=batch.ended_at,
        archived_at=batch.archived_at,
        cost=batch.cost,
        list_price=batch.list_price,
    )
