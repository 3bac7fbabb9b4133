"""The receivers of answers: what they take and how fast, which fail or are stopped; and the latest tries."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.store.deliveries import coverage, dead_letters
from carpool_worker.store.deliveries import endpoints as stored
from carpool_worker.store.deliveries.endpoints import Trouble
from carpool_worker.store.reports import endpoints
from carpool_worker.store.reports.endpoints import Lately, LateTry
from carpool_worker.units import DAY, Milliseconds
from carpool_worker.views.encoding import Moment


@dataclass(frozen=True, kw_only=True)
class ReceiverView:
    """A URL or a task, and the deliveries to it of answers of the last 24 hours; failing or stopped, and why."""

    target: str
    channel: str
    delivered: int
    retryable: int
    discarded: int
    due: int
    success: float | None  # the share of those that were tried which were delivered; None: none was tried
    p95: int | None  # milliseconds from when an answer was stored to its delivery, for 95 of 100
    failing_since: Moment | None
    stopped_at: Moment | None
    reason: str | None
    dead_letters: int  # in all, or in all of the client


@dataclass(frozen=True, kw_only=True)
class LateTryView:
    """A try that is on record: one that failed, or one after such a one; None where its delivery is no longer kept."""

    id: int
    request_id: str
    client: str | None
    target: str | None
    attempt: int
    at: Moment
    milliseconds: int
    status: int | None
    detail: str | None


def receivers(connection: sa.Connection, client: str | None = None) -> list[ReceiverView]:
    """Return the receivers of the last 24 hours and those that fail, are stopped or have dead letters: trouble first.

    With a client those that took answers of its requests only.
    """
    since = Milliseconds(now() - DAY)
    lately = {one.target: one for one in endpoints.lately(connection, since, client)}
    slowest = endpoints.slowest(connection, since, client)
    troubles = {one.url: one for one in stored.troubles(connection)}
    dead = dead_letters.counted_by_target(connection, client)
    targets = list(dict.fromkeys([*troubles, *dead, *lately] if client is None else lately))
    found = [
        _view(one, lately.get(one), troubles.get(one), slowest.get(one), dead.get(one, 0)) for one in targets
    ]
    return sorted(found, key=lambda one: (one.stopped_at is None, one.failing_since is None, one.target))


def latest_tries(
    connection: sa.Connection, limit: int, before: int | None = None, client: str | None = None
) -> list[LateTryView]:
    """Return the latest `limit` tries on record, the latest first, or those before the try of this id.

    With a client, those of them that were about its requests.
    """
    tries = endpoints.latest_tries(connection, limit, before)
    of = {one.request_id: one for one in coverage.of_requests(connection, [one.request_id for one in tries])}
    found = [_late_try(one, of.get(one.request_id)) for one in tries]
    return [one for one in found if client in (None, one.client)]


def _late_try(one: LateTry, delivery: coverage.Covering | None) -> LateTryView:
    target = delivery and delivery.target
    return LateTryView(**one._asdict(), client=delivery and delivery.client, target=target)


def _view(
    target: str, lately: Lately | None, trouble: Trouble | None, p95: int | None, dead: int
) -> ReceiverView:
    counts = lately or Lately(target, "webhook" if "://" in target else "task", 0, 0, 0, 0)
    tried = counts.delivered + counts.retryable + counts.discarded
    return ReceiverView(
        **counts._asdict(),
        success=counts.delivered / tried if tried else None,
        p95=p95,
        failing_since=trouble.failing_since if trouble else None,
        stopped_at=trouble.stopped_at if trouble else None,
        reason=trouble.reason if trouble else None,
        dead_letters=dead,
    )
