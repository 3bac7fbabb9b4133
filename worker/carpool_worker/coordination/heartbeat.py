"""Beat's heartbeat: a key that it sets again each second, so that others can see how long ago that was."""

from __future__ import annotations

import redis

from carpool_worker.coordination.keys import HEARTBEAT
from carpool_worker.units import DAY, SECOND

KEPT_SECONDS = 7 * DAY / SECOND
"""The key expires this long after the last tick: its remaining time to live gives its age, whatever any clock shows.
A beat that has been silent for longer counts as one that never was."""


def record(server: redis.Redis) -> None:
    """Record a tick of beat."""
    server.set(HEARTBEAT, 1, px=int(KEPT_SECONDS * SECOND))


def age(server: redis.Redis) -> float | None:
    """Return the seconds since beat's last tick, or None if there was none within a week."""
    left = int(server.pttl(HEARTBEAT))
    return None if left < 0 else max(0.0, KEPT_SECONDS - left / SECOND)
