"""One call: who makes it, and of what gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from carpool_worker.gateway.state import Gateway
from carpool_worker.policies.keys import GatewayKey


@dataclass(frozen=True, slots=True)
class Call:
    """A call whose key is valid, and has the scope that its route asks for."""

    request: web.Request
    key: GatewayKey
    gateway: Gateway


Answering = Callable[[Call], Awaitable[web.StreamResponse]]
"""What answers the calls of a route."""

Open = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""The same where no key is asked for."""
