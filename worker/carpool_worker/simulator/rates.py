"""The limit of HTTP requests a minute: a bucket that refills continuously."""

from datetime import UTC, datetime, timedelta
from time import monotonic

from carpool_worker.simulator.errors import ApiError

MINUTE_SECONDS = 60


class SimulatedRateLimit:
    """Admits `per_minute` calls a minute."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._left = float(per_minute)
        self._filled_at = monotonic()

    def take(self) -> None:
        """Count a call; raise ApiError (429) with `retry-after` if none is left."""
        now = monotonic()
        gained = (now - self._filled_at) * self._per_minute / MINUTE_SECONDS
        self._left = min(self._per_minute, self._left + gained)
        self._filled_at = now
        if self._left < 1:
            message = f"This request would exceed the rate limit of {self._per_minute} requests per minute."
            raise ApiError(429, message, headers={"retry-after": "1"})
        self._left -= 1

    def headers(self) -> dict[str, str]:
        """Return the `anthropic-ratelimit-requests-…` headers of this moment."""
        seconds_to_full = (self._per_minute - self._left) * MINUTE_SECONDS / self._per_minute
        reset = datetime.now(UTC) + timedelta(seconds=seconds_to_full)
        return {
            "anthropic-ratelimit-requests-limit": str(self._per_minute),
            "anthropic-ratelimit-requests-remaining": str(int(self._left)),
            "anthropic-ratelimit-requests-reset": reset.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
