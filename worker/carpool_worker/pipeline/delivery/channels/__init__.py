"""Channels: the ways on which an answer reaches its callback. One module a kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from carpool_worker.policies.deliveries import Sent


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


class Channel(Protocol):
    """Sends answers to one kind of callback."""

    def lane(self, target: str) -> str:
        """Return what limits concurrency: deliveries of one lane share a receiver."""

    async def send(self, outgoing: Outgoing) -> Sent:
        """Send one answer; it raises nothing, as every failure is a Sent."""


Channels = Mapping[str, Channel]
"""By the kind of callback: `webhook`, `task`."""
