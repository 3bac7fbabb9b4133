"""The API's limit of calls a minute: Carpool's processes keep within it together, through Redis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import redis
from redis.exceptions import RedisError

from carpool_worker.claude import times
from carpool_worker.units import SECOND

LONGEST_WAIT = 60.0
"""Seconds: the limits are per minute."""

RESERVE = 20
"""One call in this many is reserved for calls that are already under way when the rest is used up."""

PREFIX = "anthropic-ratelimit-requests-"


class RateLimit:
    """Keeps all processes that share a Redis within the API's limit; while Redis is away, every call is allowed.

    `key` is set in Redis, and expires, while no call is allowed. `kinds` are the limits of which answers tell.
    """

    def __init__(self, server: redis.Redis, key: str, kinds: Sequence[str] = ("requests",)) -> None:
        self._server = server
        self._key = key
        self._kinds = kinds

    def seconds_until_allowed(self) -> float:
        """Return the seconds until the next call may be made; 0 is now."""
        with suppress(RedisError):
            return max(0, int(self._server.pttl(self._key))) / SECOND
        return 0.0

    def learn(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from an answer how many calls are left."""
        if seconds := max(seconds_to_wait(status, headers, kind) for kind in self._kinds):
            with suppress(RedisError):
                self._server.set(self._key, 1, px=int(seconds * SECOND))


def seconds_to_wait(status: int, headers: Mapping[str, str], kind: str = "requests") -> float:
    """Return the seconds without calls that an answer asks of everybody, 0 while calls are left.

    The headers are Anthropic's `anthropic-ratelimit-requests-{limit,remaining,reset}` (RFC 3339) and `retry-after`, or
    those of another kind: `input-tokens`, `output-tokens`. A 429 that leaves calls is about something else, such as the
    queue: only its own batch waits.
    """
    prefix = f"anthropic-ratelimit-{kind}-"
    limit, remaining = (_number(headers.get(prefix + name)) for name in ("limit", "remaining"))
    retry_after = times.retry_after(headers) if status == 429 else None
    if remaining is None:
        return min(LONGEST_WAIT, retry_after or 0.0)
    if remaining > (limit or 0.0) // RESERVE:
        return 0.0
    return min(LONGEST_WAIT, max(1.0, _until_reset(headers, prefix), retry_after or 0.0))


def _until_reset(headers: Mapping[str, str], prefix: str) -> float:
    # Compared with the answer's own date: both are by Anthropic's clock.
    try:
        reset = datetime.fromisoformat(headers[prefix + "reset"])
        return (reset - (times.answered_at(headers) or datetime.now(UTC))).total_seconds()
    except (KeyError, ValueError, TypeError):
        return 0.0


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
