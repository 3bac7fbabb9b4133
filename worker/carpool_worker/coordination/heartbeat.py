"""Beat's pulse: a sign of life in Redis with each tick, so that others can tell how long ago the last one was."""

from __future__ import annotations

import redis

PULSE = "carpool:pulse"
"""Redis key that expires KEPT after the last tick: the time it has left tells its age, whatever clocks say."""

KEPT = 7 * 86_400.0
"""Seconds; a beat that was silent for longer is as good as one that never was."""


def beat(server: redis.Redis) -> None:
    """Note a tick of beat."""
    server.set(PULSE, 1, px=int(KEPT * 1_000))


def age(server: redis.Redis) -> float | None:
    """Return the seconds since beat's last tick, or None where it has been silent for a week, or for ever."""
    left = int(server.pttl(PULSE))
    return None if left < 0 else max(0.0, KEPT - left / 1_000)
