"""Cancels requests: what was never sent ends at once, what is at Anthropic is marked and its answer dropped.

First comes the mark, committed by itself: from then on whoever holds the request acts on it, whatever crashes. What
is in an open or a sealed batch, or waits for another try, is then canceled here; the aggregator looks again each
second, and the submitter before it posts. An answer that was made all the same is paid for: the collector records that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from carpool.contract import Cancel, Envelope
from carpool_worker.database import now, read, write
from carpool_worker.policies.limits import item_bytes
from carpool_worker.states import BatchState
from carpool_worker.store.batches import transitions
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.requests import cancellations
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.requests.cancellations import ALL, Marked

CHUNK_REQUESTS = 4_000
"""Requests marked or canceled in one transaction."""


@dataclass(slots=True)
class Canceled:
    """What cancelling did: requests that ended by it, and batches that it left without any."""

    requests: list[str] = field(default_factory=list)
    dissolved: list[str] = field(default_factory=list)

    def add(self, other: Canceled) -> None:
        """Count in what another run did."""
        self.requests += other.requests
        self.dissolved += other.dissolved


def fulfil(engine: sa.Engine, wish: Cancel) -> int:
    """Mark what a client wants canceled, and return how many; what is not in the tables yet is marked when it comes."""
    if wish.ids is None:
        return mark_client(engine, wish.client, wish.at)
    marked = 0
    for ids in in_chunks(wish.ids):
        with write(engine) as connection:
            unknown = set(ids) - requests.known(connection, ids)
            cancellations.remember(connection, wish.client, unknown, wish.at)
        # Only after that commit: an aggregator looks for wishes after its own. So one of the two sees the other.
        marked += mark(engine, ids, wish.client)
    return marked


def mark_client(engine: sa.Engine, client: str, until: int) -> int:
    """Mark all requests that a client enqueued until then (milliseconds); return how many were not marked before."""
    with write(engine) as connection:
        cancellations.remember(connection, client, [ALL], until)
    with read(engine) as connection:
        ids = cancellations.waiting_of_client(connection, client, until)
    return mark(engine, ids, client)


def mark_arrived(engine: sa.Engine, envelopes: Sequence[Envelope]) -> int:
    """Mark those of the requests, which must be committed, that their client wanted canceled before they came."""
    with read(engine) as connection:
        ids = cancellations.wished(connection, envelopes)
    return mark(engine, ids)


def mark(engine: sa.Engine, ids: Sequence[str], client: str | None = None) -> int:
    """Mark requests that have not ended, of this client where one is named; return how many were not marked before."""
    marked = 0
    for chunk in in_chunks(ids):
        with write(engine) as connection:
            marked += cancellations.mark(connection, chunk, client, now())
    return marked


def sweep(engine: sa.Engine) -> Canceled:
    """Cancel every marked request of which nothing is at Anthropic."""
    canceled = Canceled()
    with read(engine) as connection:
        unsent = cancellations.unsent_with_marks(connection)
    for batch_id in unsent:
        canceled.add(sweep_batch(engine, batch_id))
    canceled.requests += _sweep_retryable(engine)
    return canceled


def sweep_batch(engine: sa.Engine, batch_id: str) -> Canceled:
    """Cancel the marked requests of one open or sealed batch; one that is left empty is dissolved."""
    canceled = Canceled()
    while True:
        with write(engine) as connection:
            state = cancellations.lock_unsent(connection, batch_id)
            marked = cancellations.marked_in(connection, batch_id, CHUNK_REQUESTS) if state else []
            if state and marked and _take_out(connection, batch_id, marked) == 0:
                _dissolve(connection, batch_id, state)
                canceled.dissolved.append(batch_id)
        canceled.requests += [one.id for one in marked]
        if len(marked) < CHUNK_REQUESTS:
            return canceled


def _sweep_retryable(engine: sa.Engine) -> list[str]:
    canceled: list[str] = []
    while True:
        with write(engine) as connection:
            marked = cancellations.marked_retryable(connection, CHUNK_REQUESTS)
            _cancel(connection, marked, now())
        canceled += [one.id for one in marked]
        if len(marked) < CHUNK_REQUESTS:
            return canceled


def _take_out(connection: sa.Connection, batch_id: str, marked: Sequence[Marked]) -> int:
    _cancel(connection, marked, now())
    size = sum(item_bytes(one.params_bytes) for one in marked)
    return cancellations.shrink(connection, batch_id, len(marked), size)


def _cancel(connection: sa.Connection, marked: Sequence[Marked], at: int) -> None:
    cancellations.cancel(connection, [one.id for one in marked], at)
    deliveries.insert(connection, [(one.id, one.callback) for one in marked if one.callback], at)


def _dissolve(connection: sa.Connection, batch_id: str, state: BatchState) -> None:
    at = now()
    if state is BatchState.OPEN:
        transitions.seal(connection, batch_id, at)
    transitions.dissolve(connection, batch_id, at)


def in_chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    """Yield ids by the transaction."""
    return (list(ids[start : start + CHUNK_REQUESTS]) for start in range(0, len(ids), CHUNK_REQUESTS))
