"""A batch as Anthropic shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from carpool_worker.claude.times import milliseconds
from carpool_worker.exceptions import ClaudeError


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch as Anthropic shows it. Times are milliseconds since the epoch, by Anthropic's clock."""

    id: str
    processing_status: str
    request_count: int
    succeeded: int
    errored: int
    canceled: int
    expired: int
    created_at: int
    expires_at: int


def read_batch(batch: Any) -> RemoteBatch:
    """Return what the SDK's batch says.

    Raises:
        ClaudeError: it is none, as where the answer was no JSON; what the call did is not known.
    """
    try:
        return _read(batch)
    except (AttributeError, TypeError, ValueError) as error:
        raise ClaudeError(f"no readable answer: {type(error).__name__}", certain=False) from error


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
    )
