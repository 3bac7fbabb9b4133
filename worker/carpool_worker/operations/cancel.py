"""Cancels requests of any client immediately, and returns exactly what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from carpool import CarpoolError, Producer
from carpool_worker.database import now, read
from carpool_worker.exceptions import WorkerError
from carpool_worker.pipeline.batching import canceler
from carpool_worker.settings import Settings
from carpool_worker.states import CANCEL
from carpool_worker.store.reports import batches
from carpool_worker.store.requests import cancellations
from carpool_worker.store.requests.cancellations import RequestStanding
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)


class UnknownBatch(WorkerError):
    """There is no batch with this id."""


class InboxNotReached(WorkerError):
    """The requests that are still in the inbox could not be canceled."""


@dataclass
class CancelOutcome:
    """What became of the requests that were named: how many of each, and the ids that the tables don't know."""

    canceled: int = 0  # before Anthropic ran them: they cost nothing
    at_anthropic: int = 0  # their answers are dropped when they come, and paid for if they were made
    ended: int = 0  # before they could be canceled
    unknown: list[str] = field(default_factory=list)  # never enqueued, or still in the inbox

    def add(
        self, ids: Sequence[str], before: Mapping[str, RequestStanding], after: Mapping[str, RequestStanding]
    ) -> None:
        """Count these requests too, by how they stood before and after."""
        for id_ in ids:
            if id_ not in after:
                self.unknown.append(id_)
            elif id_ in before and before[id_].final:
                self.ended += 1
            elif after[id_].state is CANCEL.target and not after[id_].answered:
                self.canceled += 1
            elif after[id_].state is CANCEL.target or not after[id_].final:
                self.at_anthropic += 1
            else:
                self.ended += 1


def cancel(engine: sa.Engine, ids: Sequence[str], *, actor: str) -> CancelOutcome:
    """Cancel these requests; canceling one again changes nothing."""
    outcome = CancelOutcome()
    for chunk in canceler.in_chunks(ids):
        with read(engine) as connection:
            before = cancellations.standing(connection, chunk)
        canceler.request_cancellation(engine, chunk)
        canceler.sweep(engine)
        with read(engine) as connection:
            after = cancellations.standing(connection, chunk)
        outcome.add(chunk, before, after)
    log.info(
        "requests canceled by operator",
        actor=actor,
        canceled=outcome.canceled,
        at_anthropic=outcome.at_anthropic,
        ended=outcome.ended,
        unknown=len(outcome.unknown),
    )
    return outcome


def cancel_in_inbox(settings: Settings, client: str, *, actor: str) -> None:
    """Cancel all requests of a client that are still in the inbox, as soon as a worker reads them.

    Raises:
        InboxNotReached: Redis can't be used, or refuses it.
    """
    try:
        with Producer(settings.redis_url, client=client, key_prefix=settings.key_prefix) as producer:
            producer.cancel_all()
    except CarpoolError as error:
        raise InboxNotReached(f"the requests still in the inbox are not canceled: {error}") from error
    log.info("inbox canceled by operator", actor=actor, client=client)


def unfinished_of_client(engine: sa.Engine, client: str) -> Sequence[str]:
    """Return the ids of a client's requests that have not ended, without those still in the inbox."""
    with read(engine) as connection:
        return cancellations.waiting_of_client(connection, client, now())


def unfinished_in_batch(engine: sa.Engine, named: str) -> Sequence[str]:
    """Return the ids of the requests of a batch, named by its id or Anthropic's, that have not ended.

    Raises:
        UnknownBatch.
    """
    with read(engine) as connection:
        found = batches.find(connection, named)
        if found is None:
            raise UnknownBatch(f"there is no batch {named}")
        return cancellations.waiting_in(connection, found.id)
