"""Cancels requests: those never sent end at once; the answers of those at Anthropic are dropped when they come.

First the cancellation is requested, in a transaction of its own: from then on every agent acts on it, whatever
crashes. Then requests in an open or a sealed batch, or waiting for another try, are canceled here; the aggregator
repeats that each time it runs, and the submitter before it posts. An answer that was made anyway is paid for, which the
collector records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from carpool.contract import Cancel, Envelope
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import BatchEnded, NoClientBatch
from carpool_worker.models import ClientBatch
from carpool_worker.pipeline.batching.leaving import leave
from carpool_worker.store.batches import unsent
from carpool_worker.store.client_batches import rows as client_batches
from carpool_worker.store.requests import cancellations, endings, of_client_batches
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.requests.cancellations import ALL, DueCancellation
from carpool_worker.store.requests.endings import Ending

CHUNK_REQUESTS = 4_000
"""Requests handled in one transaction."""


@dataclass(slots=True)
class Canceled:
    """The ids of the canceled requests, and of the batches dissolved because they were left empty."""

    requests: list[str] = field(default_factory=list)
    dissolved: list[str] = field(default_factory=list)

    def add(self, other: Canceled) -> None:
        """Add what another sweep canceled."""
        self.requests += other.requests
        self.dissolved += other.dissolved


def apply_cancel(engine: sa.Engine, command: Cancel) -> int:
    """Apply a cancel command; requests not stored yet are canceled on arrival. Returns how many are newly affected.

    The aggregator calls it before it acknowledges the command's entry, so a crash repeats it, which changes nothing.
    For each chunk of ids two transactions are committed: one remembers the unknown ids, one requests the cancellation
    of the known ones. Ending requests is left to `sweep`.
    """
    if command.ids is None:
        return request_all(engine, command.client, command.at)
    requested = 0
    for ids in in_chunks(command.ids):
        with write(engine) as connection:
            unknown = set(ids) - requests.known(connection, ids).keys()
            cancellations.remember(connection, command.client, unknown, command.at)
        # Only after that commit: an aggregator reads what is remembered after its own, so one of the two acts.
        requested += request_cancellation(engine, ids, command.client)
    return requested


def request_all(engine: sa.Engine, client: str, until: int) -> int:
    """Request the cancellation of all that a client enqueued until then, in milliseconds; return how many."""
    with write(engine) as connection:
        cancellations.remember(connection, client, [ALL], until)
    with read(engine) as connection:
        ids = cancellations.waiting_of_client(connection, client, until)
    return request_cancellation(engine, ids, client)


def apply_remembered(engine: sa.Engine, envelopes: Sequence[Envelope]) -> int:
    """Apply cancel commands that came before these requests, which must be committed; return how many it affects."""
    with read(engine) as connection:
        ids = cancellations.remembered(connection, envelopes)
    return request_cancellation(engine, ids)


def request_cancellation(engine: sa.Engine, ids: Sequence[str], client: str | None = None) -> int:
    """Request the cancellation of those of `ids` that have not ended; return how many are newly affected.

    With `client`, only that client's requests count.
    """
    requested = 0
    for chunk in in_chunks(ids):
        with write(engine) as connection:
            requested += cancellations.request_cancellation(connection, chunk, client, now())
    return requested


def cancel_client_batch(engine: sa.Engine, client: str, batch_id: str) -> ClientBatch:
    """Request the cancellation of a client's batch; return it as it is then.

    It is one transaction, however many requests the batch has. Ending those that were not sent is left to `sweep`.

    Raises:
        NoClientBatch, BatchEnded.
    """
    with write(engine) as connection:
        batch = client_batches.get(connection, client, batch_id)
        if batch is None:
            raise NoClientBatch
        if batch.ended_at is not None:
            raise BatchEnded
        if batch.cancel_initiated_at is None:
            at = now()
            of_client_batches.request_cancellation(connection, batch_id, at)
            client_batches.initiate_cancel(connection, batch_id, at)
        return client_batches.get(connection, client, batch_id) or batch


def lapse(engine: sa.Engine) -> int:
    """Let the requests of clients' batches expire that have not ended when their batch should have; return how many.

    The `carpool.stage` task calls it. Those at Anthropic end when their results come, the others with the next `sweep`.
    """
    lapsed = 0
    with read(engine) as connection:
        overdue = client_batches.overdue(connection, now())
    for batch_id in overdue:
        with write(engine) as connection:
            at = now()
            lapsed += of_client_batches.request_cancellation(connection, batch_id, at)
            client_batches.lapse(connection, batch_id, at)
        with write(engine) as connection:
            of_client_batches.correct_counts(connection, batch_id, now())
    return lapsed


def sweep(engine: sa.Engine) -> Canceled:
    """Cancel every request that is to be canceled and is not at Anthropic.

    The aggregator calls it each time it runs, and after each chunk with cancel commands; `carpool cancel` does too.
    """
    canceled = Canceled()
    with read(engine) as connection:
        having_some = cancellations.unsent_to_be_canceled(connection)
    for batch_id in having_some:
        canceled.add(sweep_batch(engine, batch_id))
    canceled.requests += _sweep_retryable(engine)
    return canceled


def sweep_batch(engine: sa.Engine, batch_id: str) -> Canceled:
    """Cancel the requests of an open or sealed batch that are to be canceled; dissolve the batch if it is left empty.

    The submitter calls it too, just before it posts. Each chunk is one transaction, so a crash leaves the rest to the
    next sweep.
    """
    canceled = Canceled()
    while True:
        with write(engine) as connection:
            batch = unsent.lock(connection, [batch_id]).get(batch_id)
            due = cancellations.due_in_batch(connection, batch_id, CHUNK_REQUESTS) if batch else []
            _cancel(connection, due, now())
            if batch and due and leave(connection, batch, [one.params_bytes for one in due]) == 0:
                canceled.dissolved.append(batch_id)
        canceled.requests += [one.id for one in due]
        if len(due) < CHUNK_REQUESTS:
            return canceled


def _sweep_retryable(engine: sa.Engine) -> list[str]:
    canceled: list[str] = []
    while True:
        with write(engine) as connection:
            due = cancellations.due_while_retryable(connection, CHUNK_REQUESTS)
            _cancel(connection, due, now())
        canceled += [one.id for one in due]
        if len(due) < CHUNK_REQUESTS:
            return canceled


def _cancel(connection: sa.Connection, due: Sequence[DueCancellation], at: int) -> None:
    canceled = [Ending.canceled(one, has_expired=one.has_expired) for one in due]
    endings.finish(connection, canceled, at)


def in_chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    """Yield the ids in chunks of CHUNK_REQUESTS."""
    return (list(ids[start : start + CHUNK_REQUESTS]) for start in range(0, len(ids), CHUNK_REQUESTS))
