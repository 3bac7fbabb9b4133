"""A list of requests as a page shows it: each look goes only so far, however rare they are among the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.models import Request
from carpool_worker.settings import Settings
from carpool_worker.store.reports import ids, request_spans, requests
from carpool_worker.views import lookup
from carpool_worker.views.encoding import Moment
from carpool_worker.views.requests import RequestFilter, RequestView, view_of


@dataclass(frozen=True, kw_only=True)
class RequestLook:
    """Some requests, newest last, and the id from which to look further, where there may be more; else None."""

    rows: Sequence[RequestView]
    further: str | None

    @property
    def further_at(self) -> Moment | None:
        """When the batch there was opened: what is newer, or older, has been looked at."""
        return None if self.further is None else ids.made_at(self.further)


def look(
    connection: sa.Connection,
    settings: Settings,
    wanted: RequestFilter,
    limit: int,
    before: str | None = None,
    after: str | None = None,
    down_from: str | None = None,
    up_from: str | None = None,
) -> RequestLook:
    """Return what views.requests.page does, as far as one look goes; see store/reports/request_spans.py.

    The next look goes on `down_from`, or `up_from`, where this one has stopped: a time as an id, not the id of a batch,
    which is no tenant's business.

    Raises:
        UnknownId, AmbiguousId.
    """
    earlier, later = (_named(connection, named) for named in (before, after))
    forward = bool(after or up_from)
    whole = replace(
        wanted,
        batch=lookup.batch_id(connection, wanted.batch) if wanted.batch else None,
        longest_open=settings.limits.longest_open(now()),
        is_common=bool(wanted.tag) and requests.is_common(connection, wanted.tag or "", wanted.client),
    )
    end = earlier or later
    start = end.batch_id if end else down_from or up_from
    span = request_spans.span(connection, whole, start, forward=forward)
    lowest, highest = (up_from, span.last) if forward else (span.last, down_from)
    within = replace(whole, lowest=lowest, highest=highest)
    found = requests.page(connection, within, limit, earlier, later, oldest=forward)
    following = span.following if len(found) < limit else None
    further = following and (ids.earliest_like(following) if forward else ids.latest_like(following))
    return RequestLook(rows=[view_of(one) for one in found], further=further)


def _named(connection: sa.Connection, named: str | None) -> Request | None:
    return requests.get(connection, lookup.request_id(connection, named)).row if named else None
