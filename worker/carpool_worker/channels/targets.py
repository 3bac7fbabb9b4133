"""Which addresses webhooks may reach: public ones, and those that the operator allows.

Checked where it cannot be evaded: when the socket to an address is made, after names were resolved.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]

NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address that is reached."""

REFUSED: Networks = (
    IPv4Network("168.63.129.16/32"),  # a cloud's metadata server (Azure) on a public address
    IPv4Network("192.0.0.0/24"),  # another's (Oracle), and protocol assignments: RFC 6890
    IPv4Network("192.88.99.0/24"),  # 6to4 relays: RFC 7526
    IPv6Network("3fff::/20"),  # documentation: RFC 9637
    IPv6Network("5f00::/16"),  # segment routing: RFC 9602
)
"""Not for webhooks, though `ipaddress` calls them global in some versions of Python."""


class TargetRefused(OSError):
    """The address is private, or otherwise not for webhooks, and CARPOOL_WEBHOOK_ALLOWED_NETWORKS does not list it."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


def reachable(address: str, allowed: Networks, public: bool = True) -> bool:
    """Tell whether a webhook may go to this address: it is in `allowed`, or, if `public` ones are fine, public."""
    plain = _innermost(ip_address(address))
    if any(plain in network for network in allowed):
        return True
    return public and _is_public(plain)


def socket_factory(allowed: Networks, public: bool) -> Callable[[Any], socket.socket]:
    """Return what makes an aiohttp connector's sockets; it raises TargetRefused for an address out of reach."""

    def open_socket(info: Any) -> socket.socket:
        family, kind, protocol, _, (address, *_) = info
        if not reachable(address, allowed, public):
            raise TargetRefused
        return socket.socket(family, kind, protocol)

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
