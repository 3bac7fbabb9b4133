"""Pages of a list, by the API's two cursors."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from carpool_worker.simulator.errors import ApiError, invalid

DEFAULT_LIMIT = 20
MAX_LIMIT = 1_000


class Listed(Protocol):
    """What has an id, and stands in a list."""

    @property
    def id(self) -> str:
        """What a cursor names."""
        ...


AnyListed = TypeVar("AnyListed", bound=Listed)


def page_of(
    newest_first: Sequence[AnyListed], query: Mapping[str, str], unknown: ApiError
) -> tuple[Sequence[AnyListed], bool]:
    """Return a page, newest first, and whether more follow in its direction; raise ApiError, `unknown` for a cursor.

    With `after_id` it has what is just older than that one, with `before_id` what is just newer.
    """
    limit = _limit(query.get("limit", str(DEFAULT_LIMIT)))
    if "after_id" in query and "before_id" in query:
        raise invalid("after_id and before_id cannot both be given.")
    if "before_id" in query:
        newer = newest_first[: _place(newest_first, query["before_id"], unknown)]
        return newer[-limit:], len(newer) > limit
    start = _place(newest_first, query["after_id"], unknown) + 1 if "after_id" in query else 0
    older = newest_first[start:]
    return older[:limit], len(older) > limit


def _limit(text: str) -> int:
    try:
        limit = int(text)
    except ValueError:
        raise invalid(
            "limit: Input should be a valid integer, unable to parse string as an integer"
        ) from None
    if limit < 1:
        raise invalid("limit: Input should be greater than or equal to 1")
    if limit > MAX_LIMIT:
        raise invalid(f"limit: Input should be less than or equal to {MAX_LIMIT}")
    return limit


def _place(listed: Sequence[Listed], wanted: str, unknown: ApiError) -> int:
    for place, one in enumerate(listed):
        if one.id == wanted:
            return place
    raise unknown
