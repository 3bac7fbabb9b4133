"""Under which URL the caller knows this gateway.

What proxies say of it (X-Forwarded-*) is believed of listed proxies alone: a URL that somebody else chose would have
SDKs send their keys there.
"""

from __future__ import annotations

from ipaddress import ip_address

from aiohttp import web

from carpool_worker.gateway.calls import Call

PREFIX: web.RequestKey[str] = web.RequestKey("prefix", str)
"""The prefix under which the call's route was found; "" is none."""


def public_url(call: Call) -> str:
    """Return the URL that the caller's base URL is, without a slash at its end."""
    request, settings = call.request, call.gateway.settings
    prefix = request[PREFIX]
    if settings.gateway_public_url:
        return settings.gateway_public_url.rstrip("/") + prefix
    scheme, host = request.scheme, request.host
    if is_trusted(call):
        scheme = _last(request, "x-forwarded-proto") or scheme
        host = _last(request, "x-forwarded-host") or host
    return f"{'https' if scheme == 'https' else 'http'}://{host}{prefix}"


def is_trusted(call: Call) -> bool:
    """Return whether the call comes from a proxy that is listed."""
    networks, remote = call.gateway.settings.gateway_trusted_proxies, call.request.remote
    if not networks or remote is None:
        return False
    try:
        address = ip_address(remote)
    except ValueError:  # a socket of this machine
        return False
    return any(address in network for network in networks)


def _last(request: web.Request, header: str) -> str | None:
    """Return what the nearest proxy says: earlier values may be the caller's own."""
    values = request.headers.getall(header, [])
    return values[-1].rpartition(",")[2].strip() or None if values else None
