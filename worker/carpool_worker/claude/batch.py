"""Anthropic's batch as a value of Carpool's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from carpool_worker.claude.times import milliseconds
from carpool_worker.exceptions import ClaudeError
from carpool_worker.units import DAY, Milliseconds

CLAUDE_ID = re.compile(r"[!-~]{1,200}")
"""What can be an id: Anthropic promises no format, but other characters fit into no URL."""

LIFETIME = DAY
"""From a batch's creation to its expiry, by Anthropic's clock."""

MOST = 2**31 - 1
"""No batch has as many requests; the tables can't count further."""

OUTCOMES = ("succeeded", "errored", "canceled", "expired")


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch at Anthropic. Times are milliseconds since the epoch, by Anthropic's clock.

    Relays leave fields out: what is None was not said. An outcome that is not counted counts as zero.
    """

    id: str
    processing_status: str
    request_count: int | None
    succeeded: int
    errored: int
    canceled: int
    expired: int
    created_at: Milliseconds | None
    expires_at: Milliseconds | None
    ended_at: Milliseconds | None = None
    canceled_at: Milliseconds | None = None  # when somebody asked for its cancellation

    def expires_by(self, now: Milliseconds) -> Milliseconds:
        """Return when it expires: where it doesn't say, a day after it was made, or after now."""
        return self.expires_at or Milliseconds((self.created_at or now) + LIFETIME)

    def may_be_from(self, at: Milliseconds) -> bool:
        """Return whether it may have been made then or later: it was, or it doesn't say when."""
        return self.created_at is None or self.created_at >= at

    def may_be_until(self, at: Milliseconds) -> bool:
        """Return whether it may have been made then or earlier: it was, or it doesn't say when."""
        return self.created_at is None or self.created_at <= at

    def may_have(self, requests: int) -> bool:
        """Return whether it may be a batch of so many requests: it is, or it doesn't say how many it has."""
        return self.request_count in (None, requests)


def read_batch(batch: Any) -> RemoteBatch:
    """Return the SDK's batch as a RemoteBatch. Only an id is needed; what else is missing or odd counts as not said.

    Raises:
        ClaudeError: it is not a batch, for example because the answer was not JSON; what the call did is unknown.
    """
    claude_id = getattr(batch, "id", None)
    if not isinstance(claude_id, str) or not CLAUDE_ID.fullmatch(claude_id):
        raise ClaudeError("unreadable answer: it has no id of a batch", certain=False)
    counts = {name: _count(batch, name) for name in ("processing", *OUTCOMES)}
    known = [count for count in counts.values() if count is not None]
    return RemoteBatch(
        id=claude_id,
        processing_status=str(getattr(batch, "processing_status", None)),
        request_count=sum(known) if len(known) == len(counts) else None,
        **{name: counts[name] or 0 for name in OUTCOMES},
        created_at=_moment(batch, "created_at"),
        expires_at=_moment(batch, "expires_at"),
        ended_at=_moment(batch, "ended_at"),
        canceled_at=_moment(batch, "cancel_initiated_at"),
    )


def _count(batch: Any, name: str) -> int | None:
    count = getattr(getattr(batch, "request_counts", None), name, None)
    return count if type(count) is int and 0 <= count <= MOST else None


def _moment(batch: Any, name: str) -> Milliseconds | None:
    # The SDK leaves what it can't read as a time as it came.
    moment = getattr(batch, name, None)
    try:
        return milliseconds(moment) if isinstance(moment, datetime) else None
    except (OverflowError, ValueError):
        return None
