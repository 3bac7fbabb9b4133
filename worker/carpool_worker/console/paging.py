"""A page of a list that is shown newest first, and the links to those before and after it: by keys, not by numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.refusals import BadFilter

Row = TypeVar("Row")

PLACES = ("before", "after", "down_from", "up_from")
"""The filters that say which page of a list is asked for."""


class Paging:
    """Which page of a list is asked for, and where its neighbours are.

    The views return lists newest last, and those that come `before` or `after` a row; one row more than is shown tells
    whether there are more.
    """

    def __init__(self, page: PageCall, limit: int) -> None:
        self._page = page
        self._limit = limit
        given = {name: page.query[name] for name in PLACES if page.query.get(name)}
        if len(given) > 1:
            raise BadFilter(f"{next(iter(given))}: can't be combined with {list(given)[1]}")
        self.before, self.after = given.get("before"), given.get("after")
        self.down_from, self.up_from = given.get("down_from"), given.get("up_from")
        self.newer: str | None = None
        self.older: str | None = None

    @property
    def ends(self) -> dict[str, str | None]:
        """The arguments of the view."""
        return {"before": self.before, "after": self.after}

    @property
    def looks(self) -> dict[str, str | None]:
        """The arguments of a view whose looks go only so far."""
        return self.ends | {"down_from": self.down_from, "up_from": self.up_from}

    @property
    def is_inner(self) -> bool:
        """Whether this is not the first page."""
        return bool(self.before or self.after or self.down_from or self.up_from)

    def shown(self, found: Sequence[Row], key: Callable[[Row], str] = lambda row: _id(row)) -> list[Row]:
        """Return the rows to show, newest first, of up to `limit` and one more; learn where the neighbours are."""
        has_more, forward = len(found) > self._limit, bool(self.after or self.up_from)
        rows = list(found[: self._limit] if forward else found[-self._limit :])[::-1]
        if rows and (self.before or self.down_from or (forward and has_more)):
            self.newer = self._link(after=key(rows[0]))
        if rows and (forward or has_more):
            self.older = self._link(before=key(rows[-1]))
        return rows

    def look_on(self, further: str | None) -> None:
        """Learn from where to look on, where a look has gone so far; None: it has reached the end."""
        if further and (self.after or self.up_from):
            self.newer = self._link(up_from=further)
        elif further:
            self.older = self._link(down_from=further)

    @property
    def first(self) -> str:
        """The link to the newest."""
        return self._link()

    def _link(self, **place: str) -> str:
        return self._page.link(**(dict.fromkeys(PLACES) | place))


def _id(row: Any) -> str:
    return str(row.id)
