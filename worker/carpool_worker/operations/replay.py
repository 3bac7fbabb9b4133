"""Sends dead letters again: deliveries that were given up on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from carpool_worker.database import now, write
from carpool_worker.operations import endpoints
from carpool_worker.store.deliveries import dead_letters
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.views.deliveries import DeliveryFilter

log = get_logger(__name__)

STEP = 500
"""Deliveries replayed in one transaction."""


@dataclass(frozen=True)
class Replayed:
    """How many deliveries are due again, and which of their URLs had been stopped and now are not."""

    count: int
    started: Sequence[str]


def replay(engine: sa.Engine, wanted: DeliveryFilter, *, actor: str) -> Replayed:
    """Replay the dead letters among these deliveries, except those whose answer is no longer kept.

    A delivery that is given up on again meanwhile is not replayed twice. The URL that the filter names is started again
    even if it has no dead letter.
    """
    earlier = replace(wanted, until=now())
    count, started = 0, endpoints.start(engine, [wanted.target], actor=actor) if wanted.target else []
    while True:
        with write(engine) as connection:
            step, urls = dead_letters.replay(connection, earlier, STEP, now())
        count += step
        started = [*started, *urls]
        if not step:
            log.info("deliveries replayed by operator", actor=actor, count=count, started=len(started))
            return Replayed(count, started)
