"""Anthropic's batch as a value of Carpool's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from carpool_worker.claude.times import milliseconds
from carpool_worker.exceptions import ClaudeError
from carpool_worker.units import Milliseconds


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch at Anthropic. Times are milliseconds since the epoch, by Anthropic's clock."""

    id: str
    processing_status: str
    request_count: int
    succeeded: int
    errored: int
    canceled: int
    expired: int
    created_at: Milliseconds
    expires_at: Milliseconds
    ended_at: Milliseconds | None = None


def read_batch(batch: Any) -> RemoteBatch:
    """Return the SDK's batch as a RemoteBatch.

    Raises:
        ClaudeError: it is not a batch, for example because the answer was not JSON; what the call did is unknown.
    """
    try:
        return _read(batch)
    except (AttributeError, TypeError, ValueError) as error:
        raise ClaudeError(f"unreadable answer: {type(error).__name__}", certain=False) from error


def _read(batch: Any) -> RemoteBatch:
    counts = batch.request_counts
    return RemoteBatch(
        id=batch.id,
        processing_status=batch.processing_status,
        request_count=counts.processing
        + counts.succeeded
        + counts.errored
        + counts.canceled
        + counts.expired,
        succeeded=counts.succeeded,
        errored=counts.errored,
        canceled=counts.canceled,
        expired=counts.expired,
        created_at=milliseconds(batch.created_at),
        expires_at=milliseconds(batch.expires_at),
        ended_at=milliseconds(batch.ended_at) if batch.ended_at else None,
    )
