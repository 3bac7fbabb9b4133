"""How many requests of a client may wait for their answers, and how many bytes of params. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from carpool.contract import CLIENT_NAME

DEFAULT = "default"
"""The quota of each client without one of its own, and of the client of that name."""

COUNT_INTERVAL = 60_000
"""Milliseconds between counts of the tables while nobody wants one: what is wrong by then, as a crash may have made
it, is put right."""

SHORTEST_INTERVAL = 1_000
COUNTING_SHARE = 20
"""However often a count is wanted, there is one a second at most, and counting takes a twentieth of the time."""

Number = Annotated[int, Field(gt=0, lt=2**53)]


class Quota(BaseModel):
    """The most requests, and the most bytes of params, that may wait; None: any number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: Number | None = None
    bytes: Number | None = None

    @model_validator(mode="after")
    def _limits(self) -> Quota:
        if self.requests is None and self.bytes is None:
            raise ValueError("must say requests or bytes")
        return self

    def __str__(self) -> str:
        """Return it as the doors read it; see `carpool.quotas.QUOTAS`."""
        return f"{self.requests or 0} {self.bytes or 0}"


Quotas = Mapping[str, Quota]


def quota_of(quotas: Quotas, client: str) -> Quota | None:
    """Return a client's quota, or None where it has none."""
    return quotas.get(client) or quotas.get(DEFAULT)


def check_names(quotas: dict[str, Quota]) -> dict[str, Quota]:
    """Return the quotas as they are; raises ValueError for a name that no client can have."""
    for name in quotas:
        if not CLIENT_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no client: 1 to 64 letters, digits, dots, dashes or underscores")
    return quotas


def until_count(since: int, took: int, *, is_wanted: bool) -> int:
    """Return in how many milliseconds the tables are to be counted again: it is so long `since` a count that `took`."""
    shortest = max(SHORTEST_INTERVAL, COUNTING_SHARE * took)
    return max(0, (shortest if is_wanted else max(COUNT_INTERVAL, shortest)) - since)
