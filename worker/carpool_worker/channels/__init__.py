"""Channels: the ways on which an answer reaches its callback. One module a kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Event(Enum):
    """What happened when a channel tried to send."""

    ACCEPTED = "accepted"
    """The other side took it."""
    ANSWERED = "answered"
    """A receiver answered over HTTP; its status decides."""
    FAILED = "failed"
    """No answer came, or the other side was away; another try may succeed."""
    REFUSED = "refused"
    """It must never be sent there, now or later."""
    HELD = "held"
    """Nothing was sent: it is not its turn, or an operator has to set something first."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One answer, ready to be sent."""

    request_id: str
    state: str  # of the request: completed, discarded or canceled
    target: str  # a URL, or a task's name
    callback: str  # JSON
    finished_at: str  # RFC 3339
    answer: bytes  # contract.Answer as JSON
    trace: str | None = None  # W3C traceparent of the enqueue


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of sending it."""

    event: Event
    detail: str | None = None  # the error, or the start of the receiver's answer
    status: int | None = None  # HTTP's
    retry_after: float | None = None  # seconds until it may be tried again, at least


class Channel(Protocol):
    """Sends answers to one kind of callback."""

    def lane(self, target: str) -> str:
        """Return what limits concurrency: deliveries of one lane share a receiver."""

    async def send(self, outgoing: Outgoing) -> Sent:
        """Send one answer; it raises nothing, as every failure is a Sent."""


Channels = Mapping[str, Channel]
"""By the kind of callback: `webhook`, `task`."""
