"""A page of a list that is shown newest first, and the links to those before and after it: by keys, not by numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.refusals import BadFilter

Row = TypeVar("Row")


class Paging:
    """Which page of a list is asked for, and where its neighbours are.

    The views return lists newest last, and those that come `before` or `after` a row; one row more than is shown tells
    whether there are more.
    """

    def __init__(self, page: PageCall, limit: int) -> None:
        self._page = page
        self._limit = limit
        self.before = page.query.get("before") or None
        self.after = page.query.get("after") or None
        if self.before and self.after:
            raise BadFilter("before: can't be combined with after")
        self.newer: str | None = None
        self.older: str | None = None

    @property
    def ends(self) -> dict[str, str | None]:
        """The arguments of the view."""
        return {"before": self.before, "after": self.after}

    @property
    def is_inner(self) -> bool:
        """Whether this is not the first page."""
        return bool(self.before or self.after)

    def shown(self, found: Sequence[Row], key: Callable[[Row], str] = lambda row: _id(row)) -> list[Row]:
        """Return the rows to show, newest first, of up to `limit` and one more; learn where the neighbours are."""
        has_more = len(found) > self._limit
        rows = list(found[: self._limit] if self.after else found[-self._limit :])[::-1]
        if rows and (self.before or (self.after and has_more)):
            self.newer = self._page.link(after=key(rows[0]), before=None)
        if rows and (self.after or has_more):
            self.older = self._page.link(before=key(rows[-1]), after=None)
        return rows

    @property
    def first(self) -> str:
        """The link to the newest."""
        return self._page.link(before=None, after=None)


def _id(row: Any) -> str:
    return str(row.id)
