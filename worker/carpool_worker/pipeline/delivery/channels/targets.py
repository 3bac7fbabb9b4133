"""Where a webhook goes: its URL as the client wrote it, and the addresses of its host."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from time import monotonic

from yarl import URL

from carpool_worker.pipeline.delivery.addresses import Networks, Resolve, permitted

LOOKUP_SECONDS = 10.0
"""How long a name's addresses are used before it is looked up again. Open connections are used beyond that."""

MOST_LOOKUPS = 1_024
"""Names whose addresses are kept."""

HOST = re.compile(r"[A-Za-z0-9._-]+")
"""A name or an IPv4 address. Anything else could mean one host to this module and another to libcurl."""


LOCAL_NAMES = (".localhost", ".test", ".local", ".internal", ".home.arpa")
"""Endings of names that are never public: RFC 6761, RFC 6762, RFC 8375 and ICANN's resolution 2024.07.29.06."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL in the parts that a post needs."""

    is_public: bool  # https: any public address may be reached; plain http goes to allowed networks only
    host: str
    port: int
    origin: str  # https://host:port/
    path: str  # with the query, byte for byte as the client wrote it


@dataclass(slots=True)
class Found:
    """The addresses of a target's host that webhooks may reach."""

    entry: str | None  # for libcurl's cache of names; None if the host is an address
    until: float
    is_loaded: bool = False  # whether libcurl has taken the entry


@lru_cache(maxsize=MOST_LOOKUPS)
def parse(target: str) -> Target:
    """Return the parts of a URL, its path as the client wrote it: `%2F` is not `/` to every server.

    Raises:
        ValueError: it is no URL for webhooks.
    """
    url = _url(target)
    host, port = url.raw_host, url.port
    if url.scheme not in ("http", "https") or not host or port is None:
        raise ValueError("is no http or https URL with a host")
    if _is_address(host) and ":" in host:
        netloc = f"[{host}]"
    elif HOST.fullmatch(host):
        netloc = host
    else:
        raise ValueError("has a host that is neither a name nor an address")
    return Target(
        url.scheme == "https", host, port, f"{url.scheme}://{netloc}:{port}/", url.raw_path_qs or "/"
    )


class Lookups:
    """Looks up the hosts of targets, each once at a time, and leaves out the addresses that webhooks may not reach."""

    def __init__(self, resolve: Resolve, allowed: Networks) -> None:
        self._resolve = resolve
        self._allowed = allowed
        self._found: dict[tuple[str, int, bool], Found] = {}
        self._running: dict[tuple[str, int, bool], asyncio.Task[Found]] = {}

    def known(self, target: Target) -> Found | None:
        """Return what was found lately."""
        found = self._found.get((target.host, target.port, target.is_public))
        return found if found and found.until > monotonic() else None

    async def find(self, target: Target) -> Found:
        """Look a target's host up.

        Raises:
            TargetRefused: webhooks may reach none of its addresses.
            OSError: it has no addresses.
            UnicodeError: it can't be the name of a host.
        """
        key = (target.host, target.port, target.is_public)
        if key not in self._running:
            self._running[key] = task = asyncio.create_task(self._look_up(target))
            task.add_done_callback(lambda ended: self._forget(key, ended))
        return await asyncio.shield(self._running[key])

    async def _look_up(self, target: Target) -> Found:
        is_address = _is_address(target.host)
        addresses = [target.host] if is_address else await self._resolve(target.host, target.port)
        reached = permitted(addresses, self._allowed, target.is_public)
        listed = ",".join(f"[{one}]" if ":" in one else one for one in reached)
        found = Found(
            None if is_address else f"{target.host}:{target.port}:{listed}", monotonic() + LOOKUP_SECONDS
        )
        if len(self._found) >= MOST_LOOKUPS:
            self._found.clear()
        self._found[target.host, target.port, target.is_public] = found
        return found

    def _forget(self, key: tuple[str, int, bool], ended: asyncio.Task[Found]) -> None:
        del self._running[key]
        with suppress(asyncio.CancelledError):
            ended.exception()  # looked at here, as all who waited for it may have gone


def is_local(host: str) -> bool:
    """Return whether a host is an address, or a name that no public server knows: see LOCAL_NAMES."""
    return _is_address(host) or "." not in host or host.endswith(LOCAL_NAMES)


def _url(target: str) -> URL:
    if " " in target or not target.isprintable():
        raise ValueError("holds spaces or control characters")
    url = URL(target, encoded=target.isascii())
    if url.user is not None or url.password is not None:
        raise ValueError("holds a user or a password")
    return url


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
