"""Which addresses webhooks may reach: public ones, and those that the operator allows.

The check can't be evaded: it happens when the socket to an address is made, after names are resolved. Of a name with
addresses of both kinds only the permitted ones are tried.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

RECEIVE_BUFFER = 8_192
"""Bytes that a socket buffers. Little of an answer is read, and a receiver that floods us with a hundred thousand
interim answers has to wait after every few."""

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]

NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address that is reached."""

REFUSED: Networks = (
    IPv6Network("64:ff9b:1::/48"),  # NAT64 for local use, whatever lies behind it: RFC 8215
    IPv6Network("2001::/32"),  # Teredo, whose relays reach private addresses too: RFC 4380
    IPv4Network("168.63.129.16/32"),  # a cloud's metadata server (Azure) on a public address
    IPv4Network("192.0.0.0/24"),  # another's (Oracle), and protocol assignments: RFC 6890
    IPv4Network("192.88.99.0/24"),  # 6to4 relays: RFC 7526
    IPv6Network("3fff::/20"),  # documentation: RFC 9637
    IPv6Network("5f00::/16"),  # segment routing: RFC 9602
)
"""Not for webhooks, though some versions of Python call them global."""


class TargetRefused(OSError):
    """The address is private, or otherwise not for webhooks, and CARPOOL_WEBHOOK_ALLOWED_NETWORKS does not list it."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


def reachable(address: str, allowed: Networks, public: bool = True) -> bool:
    """Return whether a webhook may go to this address: it is in `allowed`, or it is public and `public` is True."""
    plain = _innermost(ip_address(address))
    if any(plain in network for network in allowed):
        return True
    return public and _is_public(plain)


class PublicOnlyResolver(AbstractResolver):
    """Resolves names with `resolver`, and leaves out the addresses that webhooks may not reach."""

    def __init__(self, resolver: AbstractResolver, allowed: Networks, public: bool) -> None:
        self._resolver = resolver
        self._allowed = allowed
        self._public = public

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a name; raises TargetRefused if none of its addresses may be reached, OSError if it has none."""
        found = await self._resolver.resolve(host, port, family)
        allowed = [one for one in found if reachable(one["host"], self._allowed, self._public)]
        if found and not allowed:
            raise TargetRefused
        return allowed

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()


def socket_factory(allowed: Networks, public: bool) -> Callable[[Any], socket.socket]:
    """Return a factory of an aiohttp connector's sockets; it raises TargetRefused for a forbidden address."""

    def open_socket(info: Any) -> socket.socket:
        family, kind, protocol, _, (address, *_) = info
        if not reachable(address, allowed, public):
            raise TargetRefused
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        return opened

    return open_socket


def _innermost(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: Address) -> bool:
    if address.is_multicast or address.is_reserved or any(address in network for network in REFUSED):
        return False
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_global and not site_local
