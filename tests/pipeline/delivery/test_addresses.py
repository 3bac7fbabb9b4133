"""Which addresses webhooks may reach."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from carpool_worker.pipeline.delivery.addresses import reachable

PUBLIC = [
    "8.8.8.8",
    "93.184.216.34",
    "2606:2800:220:1:248:1893:25c8:1946",
    "::ffff:8.8.8.8",  # IPv4-mapped
    "64:ff9b::8.8.8.8",  # NAT64: how an IPv6-only host reaches a public IPv4 address
]
PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",  # shared, behind a provider's NAT
    "100.100.100.200",  # metadata
    "169.254.169.254",  # metadata
    "168.63.129.16",  # metadata on a public address
    "192.0.0.192",  # metadata
    "192.88.99.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",  # IPv4-compatible
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",  # NAT64, local use
    "64:ff9b:1::8.8.8.8",
    "::8.8.8.8",  # IPv4-compatible, which no router takes
    "::ffff:0:127.0.0.1",  # IPv4-translated
    "100.127.255.255",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::1",  # Teredo
    "2001:0:808:808::1",
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",  # metadata
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "100::1",
    "3fff::1",
    "5f00::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached(address: str) -> None:
    assert reachable(address, [])


@pytest.mark.parametrize("address", PRIVATE)
def test_other_addresses_are_refused(address: str) -> None:
    assert not reachable(address, [])


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd00::5"])
def test_private_addresses_of_allowed_networks_are_reached(address: str) -> None:
    allowed = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]
    assert reachable(address, allowed)
    assert reachable(address, allowed, public=False)


@pytest.mark.parametrize("address", ["10.2.0.1", "127.0.0.1"])
def test_private_addresses_beside_the_allowed_networks_are_refused(address: str) -> None:
    assert not reachable(address, [ip_network("10.1.0.0/16")])


@pytest.mark.parametrize("address", PUBLIC)
def test_where_only_allowed_networks_count_public_addresses_are_refused(address: str) -> None:
    assert not reachable(address, [], public=False)
