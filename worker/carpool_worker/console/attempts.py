"""Wrong passwords: how many each address may try."""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic

MOST_WRONG = 10
WITHIN_SECONDS = 60.0
"""So many wrong passwords of one address in so long; then none of its are looked at until a minute has passed."""

MOST_ADDRESSES = 10_000


class WrongPasswords:
    """Counts wrong passwords by address, in this process."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def too_many(self, address: str) -> bool:
        """Return whether this address has tried enough for now."""
        since = monotonic() - WITHIN_SECONDS
        times = [at for at in self._times.get(address, ()) if at > since]
        return len(times) >= MOST_WRONG

    def count(self, address: str) -> None:
        """Count one."""
        times = self._times.pop(address, [])
        self._times[address] = [*times[1 - MOST_WRONG :], monotonic()]
        if len(self._times) > MOST_ADDRESSES:
            self._times.popitem(last=False)
