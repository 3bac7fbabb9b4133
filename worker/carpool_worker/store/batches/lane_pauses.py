"""SQL about paused lanes: only one batch at a time is submitted from them, as a probe, until one is accepted.

Nothing at all is submitted from a lane that an operator paused, until an operator resumes it; nor from one of which
a batch was canceled at Anthropic's console.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from carpool_worker.models import LanePause
from carpool_worker.models.tables import batches, pauses
from carpool_worker.store.upserts import insert_missing, upsert

AUTOMATIC = pauses.c.by_operator.is_(False)


def by_lane(connection: sa.Connection) -> dict[str, LanePause]:
    """Return the pauses in force."""
    return {row.lane: LanePause(**row._mapping) for row in connection.execute(sa.select(pauses))}


def pause(connection: sa.Connection, lane: str, reason: str, now: int, probe_at: int) -> bool:
    """Pause a lane; return False where it was paused already."""
    row = {"lane": lane, "reason": reason, "paused_at": now, "probe_at": probe_at, "probes": 0}
    return insert_missing(connection, pauses, [row]) == 1


def pause_by_operator(connection: sa.Connection, lane: str, reason: str, now: int) -> None:
    """Pause a lane until an operator resumes it; an automatic pause becomes the operator's."""
    row = {
        "lane": lane,
        "reason": reason,
        "paused_at": now,
        "probe_at": now,
        "probes": 0,
        "by_operator": True,
        "canceled_id": None,
    }
    upsert(connection, pauses, [row], replace=("reason", "by_operator", "canceled_id"))


def stop(connection: sa.Connection, lane: str, canceled_id: str, reason: str, now: int) -> bool:
    """Pause a lane until an operator resumes it, as its batch `canceled_id` was canceled at Anthropic's console.

    Returns False where an operator has paused it already.
    """
    stopped = {"reason": reason, "by_operator": True, "canceled_id": canceled_id}
    row = {"lane": lane, "paused_at": now, "probe_at": now, "probes": 0, **stopped}
    if insert_missing(connection, pauses, [row]):
        return True
    automatic = sa.update(pauses).where(AUTOMATIC, pauses.c.lane == lane)
    return connection.execute(automatic.values(stopped)).rowcount == 1


def resume(connection: sa.Connection, lane: str) -> bool:
    """End a lane's pause, Carpool's or an operator's; return False if it was not paused."""
    return connection.execute(sa.delete(pauses).where(pauses.c.lane == lane)).rowcount == 1


def claim_probe(connection: sa.Connection, lane: str, now: int, until: int) -> bool:
    """Claim a paused lane's next probe, until `until`; return False where it is not due, or is claimed already."""
    claimed = sa.update(pauses).where(AUTOMATIC, pauses.c.lane == lane, pauses.c.probe_at <= now)
    return connection.execute(claimed.values(probe_at=until, probes=pauses.c.probes + 1)).rowcount == 1


def probe_again(connection: sa.Connection, lane: str, probe_at: int, reason: str | None = None) -> None:
    """Set when a lane, if it is paused, is probed next, and why it is still paused."""
    values: dict[str, Any] = {"probe_at": probe_at} | ({"reason": reason} if reason else {})
    connection.execute(sa.update(pauses).where(AUTOMATIC, pauses.c.lane == lane).values(values))


def lift(connection: sa.Connection, batch_id: str) -> str | None:
    """End the pause that began before this batch was posted, as it was accepted; return the lane that was resumed."""
    posted = sa.select(batches.c.lane, batches.c.submitting_at).where(batches.c.id == batch_id)
    lane, submitting_at = connection.execute(posted).one()
    lifted = sa.delete(pauses).where(AUTOMATIC, pauses.c.lane == lane, pauses.c.paused_at <= submitting_at)
    return lane if connection.execute(lifted).rowcount else None
