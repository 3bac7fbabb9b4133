"""SQL about where the requests are that a batch at Anthropic names: still to be posted, posted, or final."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum, auto
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models import Batch
from carpool_worker.models.tables import batches, requests, segments
from carpool_worker.states import BatchState, RequestState
from carpool_worker.store.requests.cancellations import UNSENT_STATES
from carpool_worker.store.requests.rows import UNBATCHED, among
from carpool_worker.units import Milliseconds


class Stage(Enum):
    """How far a request has come."""

    UNSENT = auto()
    """It is still to be posted: its batch is not yet, or it waits to be tried again."""
    SENT = auto()
    """It is at Anthropic, or may be."""
    FINAL = auto()


class RequestPlace(NamedTuple):
    """The batch of a request, and how far it has come."""

    batch_id: str
    stage: Stage


def places(connection: sa.Connection, ids: Iterable[str]) -> dict[str, RequestPlace]:
    """Return the place of each of these requests that there is, by the request's id."""
    row = requests.c
    found = sa.select(row.id, row.batch_id, row.state, batches.c.state.label("batch_state")).where(
        among(connection, ids)
    )
    joined = found.join_from(requests, batches, batches.c.id == row.batch_id, isouter=True)
    return {
        one.id: RequestPlace(one.batch_id, _stage(one.state, one.batch_state))
        for one in connection.execute(joined)
    }


def lock_retryable(connection: sa.Connection, ids: Collection[str]) -> list[tuple[str, int]]:
    """Return the id and the params' size of those of `ids` that wait to be tried again, and lock them.

    Those that are being put into a batch right now are left out.
    """
    row = requests.c
    waiting = sa.select(row.id, row.params_bytes).where(
        among(connection, ids), row.state == RequestState.RETRYABLE
    )
    locked = waiting.order_by(row.id).with_for_update(skip_locked=True)
    return [(one.id, one.params_bytes) for one in connection.execute(locked)]


def as_if_batched(connection: sa.Connection, request_id: str, at: Milliseconds) -> Batch:
    """Return what a batch of a request would be, though it is in no table: the request never was in one."""
    row, of = requests.c, segments.c
    names = ("lane", "account", "model", "headers")
    shared = sa.select(*(of[name] for name in names), row.priority)
    found = shared.join_from(requests, segments, of.id == row.segment_id).where(
        among(connection, [request_id])
    )
    return Batch(
        id=UNBATCHED, state=BatchState.OPEN, opened_at=at, **connection.execute(found).one()._mapping
    )


def _stage(state: RequestState, batch_state: str | None) -> Stage:
    if state is RequestState.RETRYABLE or (state is RequestState.BATCHED and batch_state in UNSENT_STATES):
        return Stage.UNSENT
    return Stage.SENT if state is RequestState.BATCHED else Stage.FINAL
