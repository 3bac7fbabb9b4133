"""Every route of the gateway, in one table."""

from __future__ import annotations

from typing import NamedTuple

from carpool_worker.gateway import (
    admin,
    client_batches,
    followed,
    health,
    messages,
    openapi,
    passed_on,
    usage,
)
from carpool_worker.gateway.calls import Answering, Open
from carpool_worker.policies.keys import Scope


class Route(NamedTuple):
    """A route for callers with a key; `scope` is what that must have, None: any key will do.

    The calls of a direct one don't pass aiohttp's router; its path has no variable parts.
    """

    method: str
    path: str
    answer: Answering
    scope: Scope | None
    is_direct: bool = False


class OpenRoute(NamedTuple):
    """A route for everybody."""

    method: str
    path: str
    answer: Open


ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/messages", messages.create, Scope.MESSAGES, is_direct=True),
    Route("POST", "/v1/messages/count_tokens", passed_on.count_tokens, Scope.MESSAGES),
    Route("GET", "/v1/models", passed_on.list_models, None),
    Route("GET", "/v1/models/{id}", passed_on.retrieve_model, None),
    Route("POST", "/v1/messages/batches", client_batches.create, Scope.BATCHES),
    Route("GET", "/v1/messages/batches", client_batches.list_all, Scope.BATCHES),
    Route("GET", "/v1/messages/batches/{id}", client_batches.show, Scope.BATCHES),
    Route("DELETE", "/v1/messages/batches/{id}", client_batches.delete, Scope.BATCHES),
    Route("POST", "/v1/messages/batches/{id}/cancel", client_batches.cancel, Scope.BATCHES),
    Route("GET", "/v1/messages/batches/{id}/results", client_batches.results, Scope.BATCHES),
    Route("GET", "/v1/carpool/requests", followed.list_all, Scope.MESSAGES),
    Route("GET", "/v1/carpool/requests/{id}", followed.show, Scope.MESSAGES),
    Route("POST", "/v1/carpool/requests/{id}/cancel", followed.cancel, Scope.MESSAGES),
    Route("GET", "/v1/carpool/usage", usage.show, Scope.USAGE),
    Route("GET", "/v1/carpool/me", usage.me, None),
    Route("GET", "/admin/v1/usage", admin.show_usage, Scope.ADMIN),
    Route("GET", "/admin/v1/keys", admin.list_keys, Scope.ADMIN),
    Route("POST", "/admin/v1/keys", admin.create_key, Scope.ADMIN),
    Route("GET", "/admin/v1/keys/{id}", admin.show_key, Scope.ADMIN),
    Route("PATCH", "/admin/v1/keys/{id}", admin.change_key, Scope.ADMIN),
    Route("DELETE", "/admin/v1/keys/{id}", admin.revoke_key, Scope.ADMIN),
    Route("POST", "/admin/v1/keys/{id}/rotate", admin.rotate_key, Scope.ADMIN),
)

OPEN: tuple[OpenRoute, ...] = (
    OpenRoute("GET", "/", health.home),
    OpenRoute("GET", "/healthz", health.alive),
    OpenRoute("GET", "/readyz", health.ready),
    OpenRoute("GET", "/openapi.json", openapi.show),
)
"""HEAD is answered wherever GET is."""
