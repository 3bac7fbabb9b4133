"""The replayer: sends again, at an operator's word, what was given up on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from carpool_worker.database import now, write
from carpool_worker.store.deliveries import dead_letters, endpoints
from carpool_worker.store.deliveries.dead_letters import Filter

STEP = 500
"""Deliveries replayed in one transaction."""


@dataclass(frozen=True)
class Replayed:
    """How many deliveries are on their way again, and the URLs that had been stopped."""

    count: int
    started: Sequence[str]


def replay(engine: sa.Engine, wanted: Filter) -> Replayed:
    """Replay the dead letters among these deliveries, but for those whose answer is no longer kept.

    What is given up on again meanwhile stays so. An endpoint named by the filter is started though it has none.
    """
    earlier = replace(wanted, until=now())
    count, started = 0, _start(engine, wanted.target)
    while True:
        with write(engine) as connection:
            step, urls = dead_letters.replay(connection, earlier, STEP, now())
        count += step
        started += urls
        if not step:
            return Replayed(count, started)


def _start(engine: sa.Engine, url: str | None) -> list[str]:
    if url is None:
        return []
    with write(engine) as connection:
        return endpoints.start(connection, [url])
