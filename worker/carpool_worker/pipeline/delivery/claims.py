"""Claims deliveries for the courier, together with the answers to send, and records their outcomes, in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
import sqlalchemy as sa

from carpool.contract import Answer, to_json
from carpool_worker import database
from carpool_worker.pipeline.delivery.channels import Outgoing
from carpool_worker.states import DELIVER
from carpool_worker.store.deliveries import endpoints
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.deliveries.endpoints import Health, Trouble
from carpool_worker.store.deliveries.rows import Claimed, DeliveryOutcome
from carpool_worker.store.requests.answers import load_answers
from carpool_worker.units import Milliseconds

AWAY = (sa.exc.OperationalError, sa.exc.InterfaceError, psycopg.OperationalError)
"""Raised while the database can't be reached, is locked or has no room."""


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A claimed delivery and what is sent (None: its request is gone)."""

    claimed: Claimed
    outgoing: Outgoing | None
    is_failing: bool = False  # its endpoint has accepted nothing since it began to fail
    stopped: str | None = None  # why nothing is sent to its endpoint any longer

    @property
    def size(self) -> int:
        """Bytes of its answer."""
        return len(self.outgoing.answer) if self.outgoing else 0


def claim(engine: sa.Engine, limit: int, lease: Milliseconds) -> list[ClaimedDelivery]:
    """Claim up to `limit` deliveries for the duration of `lease`, and load their answers."""
    with database.write(engine) as connection:
        claimed = deliveries.claim(connection, limit, lease, database.now())
    if not claimed:
        return []
    with database.read(engine) as connection:
        answers = load_answers(connection, [one.request_id for one in claimed])
        urls = {one.target for one in claimed if one.channel == "webhook"}
        troubles = {trouble.url: trouble for trouble in endpoints.troubles(connection, urls)}
    return [_claimed_delivery(one, answers.get(one.request_id), troubles.get(one.target)) for one in claimed]


def record(engine: sa.Engine, outcomes: Sequence[DeliveryOutcome], stop_after: Milliseconds) -> None:
    """Record the outcomes of tries; an endpoint that has failed for `stop_after` is stopped."""
    with database.write(engine) as connection:
        deliveries.record(connection, outcomes, database.now())
        endpoints.record_health(connection, _health(outcomes), stop_after, database.now())


def _health(outcomes: Sequence[DeliveryOutcome]) -> Health:
    tries = [one for one in outcomes if one.attempt.counts and one.claimed.channel == "webhook"]
    return Health(
        well=frozenset(one.claimed.target for one in tries if one.transition is DELIVER),
        failing=frozenset(one.claimed.target for one in tries if one.transition is not DELIVER),
        gone=frozenset(one.claimed.target for one in tries if one.stops_endpoint),
    )


def _claimed_delivery(claimed: Claimed, answer: Answer | None, trouble: Trouble | None) -> ClaimedDelivery:
    if answer is None:
        return ClaimedDelivery(claimed, None)
    outgoing = Outgoing(
        request_id=claimed.request_id,
        state=answer.state,
        target=claimed.target,
        callback=claimed.callback,
        finished_at=answer.finished_at,
        answer=to_json(answer),
        trace=claimed.trace,
    )
    stopped = trouble and trouble.stopped_at and trouble.reason
    return ClaimedDelivery(claimed, outgoing, trouble is not None, stopped or None)
