"""SQL about whose turn it is: what unsent batches have of each client, and until when each client has been served."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from carpool_worker.models import Batch
from carpool_worker.models.indexes import OPEN
from carpool_worker.models.tables import batches, client_turns, requests
from carpool_worker.policies.admission import Ready
from carpool_worker.policies.fairness import Share, Shares, Turns, Unsent, Weights
from carpool_worker.states import RequestState
from carpool_worker.store.upserts import upsert

CLOCK = ""
"""The row of an account's clock: no client has this name."""


class ClientCounts(msgspec.Struct, array_like=True):
    """What a batch had of each client when it had so many requests: if it has others now, it is counted again."""

    requests: int
    clients: dict[str, tuple[int, int]]  # requests, and their highest priority
    is_gathered: bool = False  # for somebody's turn
    is_served: bool = False  # its clients have had their turns for it

    @property
    def shares(self) -> Shares:
        """What the batch had of each client."""
        return {client: Share(*share) for client, share in self.clients.items()}


_decode = msgspec.json.Decoder(ClientCounts).decode


def counted(batch: Ready) -> ClientCounts | None:
    """Return what a batch has of each client, if that has been counted since it last lost requests."""
    found = None if batch.clients is None else _decode(batch.clients)
    return found if found is not None and found.requests == batch.request_count else None


def clients_of(batch: Batch) -> dict[str, int]:
    """Return how many requests a batch has, or had when it was posted, of each client; nothing if nobody counted."""
    found = None if batch.clients is None else _decode(batch.clients)
    return {} if found is None else {client: share.requests for client, share in found.shares.items()}


def unsent(connection: sa.Connection, batch: Ready, is_open: bool = False) -> Unsent:
    """Return a batch with what it has of each client; that is counted, request by request, if it is not known."""
    known = counted(batch)
    shares = known.shares if known else count(connection, batch.id)
    is_gathered = known is not None and known.is_gathered
    return Unsent(batch.id, batch.lane, batch.opened_at, shares, is_open, is_gathered, batch.marked)


def is_gathered(connection: sa.Connection, batch_id: str) -> bool:
    """Return whether a batch was gathered for somebody's turn."""
    clients: str | None = connection.scalar(sa.select(batches.c.clients).where(batches.c.id == batch_id))
    return clients is not None and _decode(clients).is_gathered


def count(connection: sa.Connection, batch_id: str) -> Shares:
    """Return what a batch has of each client; it reads all of its requests."""
    row = requests.c
    theirs = sa.select(row.client, sa.func.count(), sa.func.max(row.priority)).where(
        row.batch_id == batch_id, row.state == RequestState.BATCHED
    )
    return {client: Share(n, top) for client, n, top in connection.execute(theirs.group_by(row.client))}


def keep(
    connection: sa.Connection,
    batch_id: str,
    request_count: int,
    shares: Shares,
    *,
    is_gathered: bool = False,
    is_served: bool = False,
) -> None:
    """Keep what a batch has of each client, as counted while it had so many requests."""
    theirs = {client: (share.requests, share.priority) for client, share in shares.items()}
    kept = msgspec.json.encode(ClientCounts(request_count, theirs, is_gathered, is_served)).decode()
    connection.execute(sa.update(batches).where(batches.c.id == batch_id).values(clients=kept))


def load(connection: sa.Connection, account: str | None, weights: Weights) -> Turns:
    """Return the turns of an account."""
    row = client_turns.c
    found = sa.select(row.client, row.served).where(row.account == (account or ""))
    served: dict[str, int] = dict(connection.execute(found).all())
    return Turns(weights, served.pop(CLOCK, 0), served)


def serve(connection: sa.Connection, batch: Batch, weights: Weights) -> None:
    """Advance the clients of a batch that is being posted, once for each batch; the caller holds the queue's lock.

    If nobody had to count its clients, there was room for all, and nothing is written.
    """
    clients: str | None = connection.scalar(sa.select(batches.c.clients).where(batches.c.id == batch.id))
    known = None if clients is None else _decode(clients)
    if known is None or known.is_served:
        return
    keep(
        connection,
        batch.id,
        known.requests,
        known.shares,
        is_gathered=known.is_gathered,
        is_served=True,
    )
    account, row = batch.account or "", client_turns.c
    turns = load(connection, batch.account, weights)
    turns.serve(known.shares)
    changed = {CLOCK: turns.clock} | {client: turns.served[client] for client in sorted(known.shares)}
    rows = [{"account": account, "client": client, "served": until} for client, until in changed.items()]
    upsert(connection, client_turns, rows, replace=("served",))
    behind = row.account == account, row.client != CLOCK, row.served <= turns.clock
    connection.execute(sa.delete(client_turns).where(*behind))


class Movable(NamedTuple):
    """A request that can be moved into another batch."""

    id: str
    client: str
    params_bytes: int
    segment_id: int
    priority: int
    submit_by: int | None
    due_by: int | None


def requests_of(
    connection: sa.Connection, batch_id: str, clients: Collection[str], limit: int
) -> list[Movable]:
    """Return up to `limit` requests of these clients in a batch, locked: the highest priority, then the oldest first.

    Those of a segment follow each other, as far as their priorities allow.
    """
    row = requests.c
    due_by = sa.case((row.client_batch.is_(None), row.deadline))
    theirs = sa.select(*(row[name] for name in Movable._fields[:-1]), due_by).where(
        row.batch_id == batch_id, row.state == RequestState.BATCHED, row.client.in_(clients)
    )
    ordered = theirs.order_by(row.priority.desc(), row.segment_id, row.id).limit(limit)
    return [Movable._make(found) for found in connection.execute(ordered.with_for_update())]


def without(shares: Shares, moved: Sequence[Movable]) -> dict[str, Share]:
    """Return what a batch has of each client once these requests have left it; priorities stay as they were."""
    left = {client: [*share] for client, share in shares.items()}
    for one in moved:
        left[one.client][0] -= 1
    return {client: Share(*share) for client, share in left.items() if share[0] > 0}


def shares_of(moved: Sequence[Movable]) -> Mapping[str, Share]:
    """Return what these requests are of each client."""
    found: dict[str, Share] = {}
    for one in moved:
        n, top = found.get(one.client, Share(0, one.priority))
        found[one.client] = Share(n + 1, max(top, one.priority))
    return found


def open_batches(connection: sa.Connection, account: str | None) -> list[Ready]:
    """Return the open batches of an account that have requests."""
    row = batches.c
    of_account = OPEN, row.account.is_not_distinct_from(account), row.request_count > 0
    found = sa.select(*(row[name] for name in Ready._fields)).where(*of_account)
    return [Ready._make(one) for one in connection.execute(found.order_by(row.id))]
