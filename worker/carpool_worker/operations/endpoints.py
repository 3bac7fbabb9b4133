"""Starts and stops webhook URLs: a stopped one gets nothing until it is started again."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from carpool_worker.database import now, write
from carpool_worker.store.deliveries import endpoints
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)


def start(engine: sa.Engine, urls: Sequence[str], *, actor: str) -> list[str]:
    """Send to these URLs again; return those that were stopped."""
    with write(engine) as connection:
        started = endpoints.start(connection, urls)
    log.info("endpoints started by operator", actor=actor, count=len(started))
    return started


def stop(engine: sa.Engine, url: str, reason: str, *, actor: str) -> None:
    """Send nothing to a URL until it is started again; its deliveries are given up on, and can be replayed then."""
    with write(engine) as connection:
        endpoints.stop(connection, url, reason, now())
    log.info("endpoint stopped by operator", actor=actor)
