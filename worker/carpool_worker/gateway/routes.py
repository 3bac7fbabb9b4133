"""Every route of the gateway, in one table."""

from __future__ import annotations

from typing import NamedTuple

from carpool_worker.gateway import followed, health, messages, openapi, passed_on
from carpool_worker.gateway.calls import Answering, Open
from carpool_worker.policies.keys import Scope


class Route(NamedTuple):
    """A route for callers with a key; `scope` is what that must have, None: any key will do."""

    method: str
    path: str
    answer: Answering
    scope: Scope | None


class OpenRoute(NamedTuple):
    """A route for everybody."""

    method: str
    path: str
    answer: Open


ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/messages", messages.create, Scope.MESSAGES),
    Route("POST", "/v1/messages/count_tokens", passed_on.count_tokens, Scope.MESSAGES),
    Route("GET", "/v1/models", passed_on.list_models, None),
    Route("GET", "/v1/models/{id}", passed_on.retrieve_model, None),
    Route("GET", "/v1/carpool/requests", followed.list_all, Scope.MESSAGES),
    Route("GET", "/v1/carpool/requests/{id}", followed.show, Scope.MESSAGES),
    Route("POST", "/v1/carpool/requests/{id}/cancel", followed.cancel, Scope.MESSAGES),
)

OPEN: tuple[OpenRoute, ...] = (
    OpenRoute("GET", "/", health.home),
    OpenRoute("GET", "/healthz", health.alive),
    OpenRoute("GET", "/readyz", health.ready),
    OpenRoute("GET", "/openapi.json", openapi.show),
)
"""HEAD is answered wherever GET is."""
