"""Which addresses webhooks may reach: public ones, and those that the operator allows.

The check can't be evaded: it happens when the socket to an address is made, after names are resolved. Of a name with
addresses of both kinds only the permitted ones are tried.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

RECEIVE_BUFFER = 8_192
"""Bytes that a socket buffers. Little of an answer is read, and a receiver that floods us with a hundred thousand
interim answers has to wait after every few."""

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Returns the addresses of a host and port; raises OSError if it has none, UnicodeError if it can't be a name."""

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


def permitted(addresses: Iterable[str], allowed: Networks, public: bool) -> list[str]:
    """Return the addresses that webhooks may reach; raises TargetRefused if they may reach none."""
    found = [address for address in addresses if reachable(address, allowed, public)]
    if not found:
        raise TargetRefused
    return found


class LentSocket(socket.socket):
    """A socket with a small buffer for libcurl, which works with a duplicate of it: this one is closed once dropped."""

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def __del__(self) -> None:
        self.close()


async def resolve(host: str, port: int) -> list[str]:
    """Resolve a name in a thread, as the system does; a Resolve."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def open_socket(
    family: int, kind: int, protocol: int, address: str, allowed: Networks, public: bool
) -> LentSocket:
    """Return a socket for a connection to this address; raises TargetRefused if webhooks may not reach it."""
    if not reachable(address, allowed, public):
        raise TargetRefused
    return LentSocket(family, kind, protocol)


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
