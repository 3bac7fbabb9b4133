"""What a call prefers: the header `Prefer` (RFC 7240)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from carpool_worker.gateway.calls import Call

LONGEST_PREFERRED_WAIT = 600.0
"""Seconds."""


def preferences(call: Call) -> Mapping[str, str]:
    """Return what `Prefer` says (RFC 7240), by the names of the preferences."""
    given = call.request.headers.getall("prefer", None)
    return _preferences(",".join(given)) if given else {}


@lru_cache(maxsize=256)
def _preferences(given: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for one in given.split(","):
        name, _, value = one.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return MappingProxyType(found)


def preferred_wait(call: Call) -> float:
    """Return how many seconds a call prefers to wait; 0.0 if it does not say."""
    return wait_of(preferences(call))


def wait_of(prefer: Mapping[str, str]) -> float:
    """Return the same of preferences that have been read."""
    if "wait" not in prefer:
        return 0.0
    try:
        return max(0.0, min(float(prefer["wait"]), LONGEST_PREFERRED_WAIT))
    except ValueError:  # what is not understood is ignored (RFC 7240, section 2)
        return 0.0
