"""Who calls: the key, as SDKs send it, and whether it may."""

from __future__ import annotations

from aiohttp import web
from aiohttp.hdrs import AUTHORIZATION
from multidict import istr

from carpool_worker.gateway.errors import GatewayError
from carpool_worker.gateway.state import Gateway
from carpool_worker.policies.keys import GatewayKey, Scope

API_KEY = istr("x-api-key")


async def authenticate(gateway: Gateway, request: web.Request, scope: Scope | None) -> GatewayKey:
    """Return the key of a call; `scope` is what it must have, None: nothing more than to be valid.

    Raises:
        GatewayError: 401 without a valid key, 403 for one without the scope.
        sqlalchemy.exc.OperationalError: the database can't be reached.
    """
    secret = _secret(request)
    if secret is None:
        raise GatewayError(401, "x-api-key header is required")
    key = await gateway.keys.find(secret)
    if key is None:
        raise GatewayError(401, "invalid x-api-key")
    if scope is not None and not key.has(scope):
        raise GatewayError(403, f"Your API key lacks the scope '{scope}'.")
    return key


def _secret(request: web.Request) -> str | None:
    """Return the secret: SDKs 2.x send it as a bearer token, older ones in x-api-key."""
    headers = request.headers
    if given := headers.get(AUTHORIZATION):
        scheme, _, token = given.partition(" ")
        if scheme.lower() == "bearer" and (token := token.strip()):
            return token
    return headers.get(API_KEY, "").strip() or None
