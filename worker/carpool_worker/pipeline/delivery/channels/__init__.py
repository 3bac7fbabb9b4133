"""Channels: the ways in which an answer reaches its callback, a module for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from carpool_worker.policies.deliveries import Sent


class Outgoing(NamedTuple):
    """One answer, or the end of a client's batch, ready to be sent."""

    request_id: str  # or the batch's, as its client knows it
    state: str  # of the request: completed, discarded or canceled; of the batch: ended
    target: str  # a URL, or a task's name
    callback: str  # JSON
    finished_at: str  # RFC 3339
    answer: bytes  # contract.Answer as JSON
    trace: str | None = None  # W3C traceparent of the enqueue
    retries: int = 0  # by an operator, after it had ended
    client: str = ""  # whose secret signs it, if it has one of its own
    kind: str = "request"  # or "batch"

    @property
    def delivery_id(self) -> str:
        """What receivers know the delivery by: the same at each try, and another one for another answer.

        It is the request's id, and after `carpool retry` that with a number. Standard Webhooks allows no full stop.
        """
        return f"{self.request_id}-{self.retries + 1}" if self.retries else self.request_id


class Channel(Protocol):
    """Sends answers to one kind of callback."""

    async def send(self, outgoing: Outgoing) -> Sent:
        """Send one answer. A failure is returned as a Sent, never raised."""


Channels = Mapping[str, Channel]
"""By the kind of callback: `webhook`, `task`."""
