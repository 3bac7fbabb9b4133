"""The filters of a page, as they are in its URL: read by a table of their names, or refused with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Any

from carpool.contract import REQUEST_ID
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.refusals import BadFilter
from carpool_worker.database import now
from carpool_worker.units import DAY, HOUR, SECOND, Milliseconds

AGO = re.compile(r"(\d{1,5})([smhdw])")
LENGTHS = {"s": SECOND, "m": 60 * SECOND, "h": HOUR, "d": DAY, "w": 7 * DAY}

LONGEST = 500
"""Characters of a filter."""

Read = Callable[[str], Any]


def read(page: PageCall, known: Mapping[str, Read]) -> dict[str, Any]:
    """Return the filters that are given, by name, as their readers return them; an empty one is not given.

    Raises:
        BadFilter: names the filter and the rule.
    """
    check_known(page.query, known)
    return read_fields(page.query, known)


def check_known(query: Mapping[str, str], known: Collection[str]) -> None:
    """Raise BadFilter if a filter is none of those that the page knows."""
    if strange := [name for name in query if name not in known]:
        raise BadFilter(f"there is no filter {strange[0]!r} here; there are {', '.join(known) or 'none'}")


def read_fields(given: Mapping[str, str], known: Mapping[str, Read]) -> dict[str, Any]:
    """Return the fields of a URL or a form that are given, by name, as their readers return them.

    Raises:
        BadFilter: names the field and the rule.
    """
    found = {}
    for name, value in given.items():
        if value := value.strip():
            try:
                found[name] = known[name](value)
            except ValueError as error:
                raise BadFilter(f"{name}: {error}") from None
    return found


def of_tenant(page: PageCall, given: dict[str, Any]) -> dict[str, Any]:
    """Return the filters, for a tenant with that of the client whose pages these are."""
    return given if page.user.client is None else given | {"client": page.user.client}


def text(value: str) -> str:
    """Return a text of a filter; raises ValueError."""
    if len(value) > LONGEST or not value.isprintable():
        raise ValueError(f"has to be a line of up to {LONGEST} characters")
    return value


def whole_id(value: str) -> str:
    """Return an id; raises ValueError."""
    if not REQUEST_ID.fullmatch(value):
        raise ValueError("has to be an id of 32 hexadecimal digits")
    return value


def one_of(states: type[StrEnum]) -> Read:
    """Return what reads a member of an enumeration."""

    def member(value: str) -> StrEnum:
        try:
            return states(value)
        except ValueError:
            raise ValueError(f"there is no {value!r}; there are {', '.join(states)}") from None

    return member


def since(value: str) -> Milliseconds:
    """Return a time in milliseconds since the epoch, from how long ago it was: 90m, 12h, 3d, 2w; raises ValueError."""
    ago = AGO.fullmatch(value)
    if ago is None:
        raise ValueError(f"{value!r} is no length of time: write 90m, 12h, 3d or 2w for so long ago")
    return Milliseconds(max(0, now() - int(ago[1]) * LENGTHS[ago[2]]))
