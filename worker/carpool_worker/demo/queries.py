"""What the demo reads from the database; it writes nothing there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from carpool_worker.database import read
from carpool_worker.models.tables import batches, requests, segments
from carpool_worker.states import OUT_BATCH_STATES, BatchState, RequestState

POOLING, OUT, COLLECTING, FAILED = "pooling", "at Claude", "collecting", "failed"
REQUEST_STAGES = (
    POOLING,
    OUT,
    COLLECTING,
    RequestState.RETRYABLE.value,
    RequestState.COMPLETED.value,
    FAILED,
)
"""Where a request can be: its own state or, while it is `batched`, that of its batch."""


@dataclass(frozen=True)
class DemoUsage:
    """The totals of one model's requests; money in dollars."""

    model: str
    batches: int
    requests: int
    outcomes: Mapping[str, int]
    input_tokens: int
    output_tokens: int
    cost: Decimal
    list_price: Decimal


def stages(engine: sa.Engine) -> dict[str, Counter[str]]:
    """Return, for each client, how many of its requests are at each of REQUEST_STAGES."""
    query = (
        sa.select(requests.c.client, requests.c.state, batches.c.state, sa.func.count())
        .join(batches, batches.c.id == requests.c.batch_id)
        .group_by(requests.c.client, requests.c.state, batches.c.state)
    )
    found: dict[str, Counter[str]] = {}
    with read(engine) as connection:
        for client, state, batch_state, count in connection.execute(query):
            found.setdefault(client, Counter())[_stage(state, batch_state)] += count
    return found


def _stage(state: RequestState, batch_state: BatchState) -> str:
    if state in (RequestState.RETRYABLE, RequestState.COMPLETED):
        return state.value
    if state is not RequestState.BATCHED:
        return FAILED
    if batch_state in OUT_BATCH_STATES:
        return OUT
    return COLLECTING if batch_state is BatchState.ENDED else POOLING


def used(engine: sa.Engine) -> list[DemoUsage]:
    """Return the totals of each model's requests."""
    query = _by_model(
        sa.func.count(requests.c.batch_id.distinct()),
        sa.func.count(),
        *(_total(column) for column in (requests.c.input_tokens, requests.c.output_tokens)),
        *(_total(column) for column in (requests.c.cost, requests.c.list_price)),
    ).group_by(segments.c.model)
    with read(engine) as connection:
        outcomes = _outcomes(connection)
        return [
            DemoUsage(model, batched, count, outcomes[model], tokens_in, tokens_out, cost, price)
            for model, batched, count, tokens_in, tokens_out, cost, price in connection.execute(query)
        ]


def _total(column: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(column), sa.literal(0, column.type), type_=column.type)


def _outcomes(connection: sa.Connection) -> dict[str, Counter[str]]:
    query = _by_model(requests.c.outcome, sa.func.count())
    found: dict[str, Counter[str]] = {}
    for model, outcome, count in connection.execute(query.group_by(segments.c.model, requests.c.outcome)):
        found.setdefault(model, Counter())[outcome or "none yet"] += count
    return found


def _by_model(*columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    own = segments.c.id == requests.c.segment_id
    return sa.select(segments.c.model, *columns).join_from(requests, segments, own)
