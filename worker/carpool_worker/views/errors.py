"""Errors: the requests that ended with one, by its type, their model and their client, with samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from carpool_worker.store.reports import errors, requests
from carpool_worker.store.reports.errors import Failure
from carpool_worker.units import Milliseconds
from carpool_worker.views.encoding import Moment
from carpool_worker.views.failure_reasons import reason_of

MOST_GROUPS = 50
EXPLAINED = 15
"""Groups whose newest request is read for the reason that it gives."""


@dataclass(frozen=True, kw_only=True)
class ErrorGroup:
    """Requests that ended with one type of error, of one model and one client; the newest of them are samples."""

    error: str
    model: str
    client: str
    requests: int
    first_at: Moment
    last_at: Moment
    samples: Sequence[str]  # ids, the newest first
    reason: str | None  # of the newest, in the API's words without what its client wrote


@dataclass(frozen=True, kw_only=True)
class ErrorGroups:
    """The largest groups; `is_cut` if there were more errors than are read, and the counts are of the newest."""

    groups: Sequence[ErrorGroup]
    requests: int
    is_cut: bool


def grouped(connection: sa.Connection, since: Milliseconds, client: str | None = None) -> ErrorGroups:
    """Return the groups of those that have ended since then, the largest first; of one client, or of all."""
    alike: defaultdict[tuple[str, str, str], list[Failure]] = defaultdict(list)
    for one in errors.newest(connection, since, client):
        alike[one.error, one.model, one.client].append(one)
    groups = sorted(map(_group, alike.values()), key=lambda one: (-one.requests, -one.last_at))
    total = sum(one.requests for one in groups)
    answers = requests.answers_to(connection, [one.samples[0] for one in groups[:EXPLAINED]])
    shown = [replace(one, reason=reason_of(answers.get(one.samples[0]))) for one in groups[:MOST_GROUPS]]
    return ErrorGroups(groups=shown, requests=total, is_cut=total >= errors.MOST_READ)


def _group(samples: Sequence[Failure]) -> ErrorGroup:
    newest = sorted(samples, key=lambda one: -one.finished_at)
    first, parts = newest[0], [one for one in samples if one.place == 1]
    return ErrorGroup(
        error=first.error,
        model=first.model,
        client=first.client,
        requests=sum(one.requests for one in parts),
        first_at=min(one.first_at for one in parts),
        last_at=max(one.last_at for one in parts),
        samples=[one.id for one in newest[: errors.SAMPLES]],
        reason=None,
    )
