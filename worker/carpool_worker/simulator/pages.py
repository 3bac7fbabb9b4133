"""Pages of the list, by the API's two cursors."""

from collections.abc import Mapping

from carpool_worker.simulator.batches import SimulatedBatch
from carpool_worker.simulator.errors import invalid, no_such_batch

DEFAULT_LIMIT = 20
MAX_LIMIT = 1_000


def page_of(
    newest_first: list[SimulatedBatch], query: Mapping[str, str]
) -> tuple[list[SimulatedBatch], bool]:
    """Return a page, newest first, and whether more follow in its direction; raise ApiError.

    With `after_id` it has the batches just older than that one, with `before_id` those just newer.
    """
    limit = _limit(query.get("limit", str(DEFAULT_LIMIT)))
    if "after_id" in query and "before_id" in query:
        raise invalid("after_id and before_id cannot both be given.")
    if "before_id" in query:
        newer = newest_first[: _place(newest_first, query["before_id"])]
        return newer[-limit:], len(newer) > limit
    start = _place(newest_first, query["after_id"]) + 1 if "after_id" in query else 0
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


def _place(batches: list[SimulatedBatch], batch_id: str) -> int:
    for place, batch in enumerate(batches):
        if batch.id == batch_id:
            return place
    raise no_such_batch()
