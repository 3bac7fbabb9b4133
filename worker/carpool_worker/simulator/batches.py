"""A batch as the simulator stores it, and as the API returns it."""

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from carpool_worker.simulator.workspaces import DEFAULT_WORKSPACE

ProcessingStatus = Literal["in_progress", "canceling", "ended"]


class SimulatedCounts(msgspec.Struct):
    """A batch's requests by outcome: the API's `request_counts`."""

    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class SimulatedBatch(msgspec.Struct, kw_only=True):
    """A batch. Times are seconds since the epoch; `latency` is the seconds that it takes."""

    id: str
    sequence: int
    size: int
    created_at: float
    expires_at: float
    latency: float
    betas: str
    counts: SimulatedCounts
    workspace: str = DEFAULT_WORKSPACE
    cancel_initiated_at: float | None = None
    ended_at: float | None = None
    archived_at: float | None = None

    @property
    def processing_status(self) -> ProcessingStatus:
        """Return the batch's state, in the API's words."""
        if self.ended_at is not None:
            return "ended"
        return "in_progress" if self.cancel_initiated_at is None else "canceling"

    @property
    def has_results(self) -> bool:
        """Return whether its results are available: from its end until it is archived."""
        return self.ended_at is not None and self.archived_at is None

    @property
    def stops_at(self) -> float:
        """Return when the last of its requests has run, because it is done, expired or canceled."""
        return min(
            self.created_at + self.latency, self.expires_at, self.cancel_initiated_at or self.expires_at
        )

    @property
    def requests_run(self) -> int:
        """Return how many of its requests run: the share of them that its time is of the latency."""
        if self.latency == 0:
            return self.size
        return round(self.size * (self.stops_at - self.created_at) / self.latency)

    def as_answer(self, origin: str) -> dict[str, Any]:
        """Return the API's `message_batch` object; `origin` is the beginning of its absolute `results_url`."""
        status = self.processing_status
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": msgspec.to_builtins(self.counts),
            "created_at": _time(self.created_at),
            "expires_at": _time(self.expires_at),
            "ended_at": _time(self.ended_at),
            "cancel_initiated_at": _time(self.cancel_initiated_at),
            "archived_at": _time(self.archived_at),
            "results_url": f"{origin}/v1/messages/batches/{self.id}/results" if self.has_results else None,
        }


def _time(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")
