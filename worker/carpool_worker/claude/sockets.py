"""What is asked of the connections to the API: that nothing is sent any more once its answer counts as lost.

Whoever gives a post up closes its connection, or dies. What the kernel had not sent by then it would go on sending, for
minutes where the network is away: a batch could be made after its absence was proved, and be posted a second time.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import httpx2

from carpool_worker.policies.in_doubt import READ_TIMEOUT

OPTION = getattr(socket, "TCP_USER_TIMEOUT", None)
"""Linux' option, in milliseconds (RFC 5482): a connection whose data is not acknowledged for so long is aborted."""

UNACKNOWLEDGED_SECONDS = READ_TIMEOUT


def hooks(learn: Callable[[httpx2.Response], None]) -> dict[str, list[Callable[..., None]]]:
    """Return the hooks of a client whose connections drop what comes too late; `learn` gets each answer."""
    return {"request": [_drop_what_is_late], "response": [learn]}


def _drop_what_is_late(request: httpx2.Request) -> None:
    request.extensions["trace"] = _on_event


def _on_event(name: str, info: Mapping[str, Any]) -> None:
    if OPTION is None or not name.endswith("connect_tcp.complete"):
        return
    opened = info["return_value"].get_extra_info("socket")
    opened.setsockopt(socket.IPPROTO_TCP, OPTION, round(UNACKNOWLEDGED_SECONDS * 1_000))
