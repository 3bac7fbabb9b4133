"""How the API is reached from here: through which proxy, with whose certificates, and what would stop a call."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import anthropic
import httpx2

from carpool_worker.exceptions import ClaudeError

ANTHROPIC = "https://api.anthropic.com"

ADDRESS = "ANTHROPIC_BASE_URL"
"""The variable with the API's address, where an account has none of its own."""

PROXIES = ("http", "https", "all")
"""Kinds of proxies in the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, or in small letters, which win."""

PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")

Hooks = Mapping[str, list[Callable[..., Any]]]


class Obstacle(NamedTuple):
    """What stops calls, how to mend it, and whether calls of the address in question come upon it."""

    what: str
    mend: str
    is_met: bool


def open_http(address: str, hooks: Hooks) -> httpx2.Client:
    """Return a client for the API at this address; if something stops every call, each of them says what.

    A redirect is not followed: it would take the key to another address. This machine is never asked through a proxy,
    whatever NO_PROXY says.
    """
    met = [one for one in obstacles(address) if one.is_met]
    if met:
        return httpx2.Client(transport=_Blocked(f"{met[0].what}: {met[0].mend}"))
    options: dict[str, Any] = {"event_hooks": hooks, "follow_redirects": False}
    if is_loopback(address):
        options |= {"trust_env": False, "verify": _certificates(address)}
    return anthropic.DefaultHttpxClient(**options)


def is_url(address: str) -> bool:
    """Return whether an address is one that the API could have."""
    try:
        parsed = urlsplit(address)
        return parsed.scheme in ("http", "https") and bool(parsed.hostname) and bool(httpx2.URL(address).host)
    except (ValueError, httpx2.InvalidURL):
        return False


def is_loopback(address: str) -> bool:
    """Return whether an address is this machine's own."""
    host = (urlsplit(address).hostname or "").rstrip(".")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def proxy_variable(address: str) -> str | None:
    """Return the variable that names the proxy through which an address is asked; None if it is asked directly."""
    host, scheme = urlsplit(address).hostname or "", urlsplit(address).scheme
    named = getproxies_environment()
    if is_loopback(address) or proxy_bypass(host):
        return None
    return next((_variable(kind) for kind in (scheme, "all") if named.get(kind)), None)


def obstacles(address: str) -> Iterator[Obstacle]:
    """Yield what the environment has that would stop calls: of this address, or of any that it was meant for."""
    if not is_url(address):
        mend = f"correct {ADDRESS}, or the account's base_url: https:// and a host"
        yield Obstacle("the API's address is no URL", mend, True)
        return
    is_local = is_loopback(address)
    for kind, proxy in getproxies_environment().items():
        if kind in PROXIES and (what := _wrong_with(proxy)):
            mend = f"unset {_variable(kind)}, or name an http:// proxy there"
            yield Obstacle(f"{_variable(kind)} {what}", mend, not is_local)
    if what := _wrong_certificates():
        asks_by_tls = urlsplit(address).scheme == "https" or proxy_variable(address) is not None
        yield Obstacle(what, "name a file of certificates there, or unset it", asks_by_tls)


def _wrong_with(proxy: str) -> str | None:
    scheme = proxy.partition("://")[0].lower() if "://" in proxy else "http"
    if scheme not in PROXY_SCHEMES:
        return f"names a proxy by {scheme}://, which the API's client does not know"
    if scheme.startswith("socks") and find_spec("socksio") is None:
        return "names a SOCKS proxy, which needs a package: pip install socksio"
    try:
        httpx2.Proxy(proxy if "://" in proxy else f"http://{proxy}")
    except (httpx2.InvalidURL, ValueError):
        return "is not the URL of a proxy"
    return None


def _wrong_certificates() -> str | None:
    if file := os.environ.get("SSL_CERT_FILE"):
        try:
            ssl.create_default_context(cafile=file)
        except ssl.SSLError:
            return f"SSL_CERT_FILE names {file}, which has no certificate"
        except OSError as error:
            return f"SSL_CERT_FILE names {file}, which can't be read ({error.strerror})"
    elif (folder := os.environ.get("SSL_CERT_DIR")) and not any(map(os.path.isdir, folder.split(os.pathsep))):
        return f"SSL_CERT_DIR names {folder}, which is no folder"
    return None


def _certificates(address: str) -> ssl.SSLContext:
    """Return whom to trust; over plain http nobody is asked for a certificate, so none is read."""
    if urlsplit(address).scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx2.create_ssl_context()


def _variable(kind: str) -> str:
    """Return the name, as it is spelt in the environment, of the variable for a kind of proxy."""
    small = f"{kind}_proxy"
    return (
        small
        if os.environ.get(small)
        else next((name for name in os.environ if name.lower() == small), small.upper())
    )


class _Blocked(httpx2.BaseTransport):
    """Sends nothing: each request fails with what stops it."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        raise ClaudeError(self._reason)
