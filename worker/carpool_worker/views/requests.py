"""Requests: the state of each; and the story of one, from its producer to its callback."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, cast

import sqlalchemy as sa

from carpool.enqueue_options import DeadlinePolicy
from carpool.keywords import DEADLINE_POLICIES
from carpool.request_ids import RequestIds
from carpool_worker.database import now
from carpool_worker.formatting import time_of
from carpool_worker.models import Batch, RealTimeCall, Request
from carpool_worker.settings import Settings
from carpool_worker.states import CallState, DeliveryState, RequestState
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.deliveries import coverage, dead_letters
from carpool_worker.store.reports import requests
from carpool_worker.store.reports.requests import FoundRequest
from carpool_worker.store.requests import calls, results
from carpool_worker.store.requests.rows import REAL_TIME, UNBATCHED
from carpool_worker.views import budgets, lookup
from carpool_worker.views.batches import StoryEvent
from carpool_worker.views.encoding import FLAT, Moment
from carpool_worker.views.failure_reasons import reason_of
from carpool_worker.views.request_stories import deadline_of, story
from carpool_worker.views.wait_reasons import queue_context, waits_for

RequestFilter = requests.RequestFilter
"""Which requests; `batch` may be the beginning of an id, and `longest_open` is filled in by the view."""

TOKENS = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens")


@dataclass(frozen=True, kw_only=True)
class RequestView:
    """A request; money is in dollars. It contains nothing that a client or Claude said."""

    id: str
    client: str
    model: str
    lane: str
    state: RequestState
    attempt: int
    outcome: str | None
    error: str | None  # the type of the error that it failed with
    batch_id: str | None
    priority: int
    enqueued_at: Moment
    submit_by: Moment | None
    deadline: Moment | None  # when its answer should be there
    retry_at: Moment | None
    held_at: Moment | None  # since when it waits for its client's budget
    finished_at: Moment | None
    input_tokens: int | None
    output_tokens: int | None
    cache_write_tokens: int | None
    cache_read_tokens: int | None
    cost: Decimal | None
    list_price: Decimal | None
    estimate: Decimal | None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A request's params, metadata and answer; None where there is none, or it is no longer kept."""

    metadata: Any
    idempotency_key: str | None
    custom_id: str | None  # what its client calls it in its batch
    params: Any
    answer: Any


@dataclass(frozen=True, kw_only=True)
class CallView:
    """A call in real time, in dollars; `batch_cost` is what its request cost in a batch as well."""

    state: CallState
    submissions: int
    estimate: Decimal
    cost: Decimal | None
    batch_cost: Decimal | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class RequestDetails(RequestView):
    """A request with its delivery, what it waits for, and what happened to it, in order of time."""

    params_bytes: int
    tags: Sequence[str]
    deadline_policy: DeadlinePolicy | None  # what its deadline may cost; None: it has none
    is_late: bool | None  # whether that has passed before its answer came; None: it has none
    client_batch: str | None  # the batch that its client made at the gateway
    callback: str | None  # a URL, or a task's name
    delivery: DeliveryState | None
    delivery_error: str | None
    failure: str | None  # why it failed, in the API's words without what its client wrote
    waiting_for: str | None
    contents: Contents | None = field(metadata=FLAT)  # None: not asked for
    calls: Sequence[CallView]  # in real time
    story: Sequence[StoryEvent]


def page(
    connection: sa.Connection,
    settings: Settings,
    wanted: RequestFilter,
    limit: int,
    before: str | None = None,
    after: str | None = None,
) -> list[RequestView]:
    """Return the newest `limit` of these requests in the order in which they were batched, newest last.

    With `before` those before that request, with `after` the next ones after it. Both, and `wanted.batch`, may be the
    beginnings of ids.

    Raises:
        UnknownId, AmbiguousId.
    """
    batch = lookup.batch_id(connection, wanted.batch) if wanted.batch else None
    exactly = replace(wanted, batch=batch, longest_open=settings.limits.longest_open(now()))
    ends = [_get(connection, named).row if named else None for named in (before, after)]
    return [view_of(one) for one in requests.page(connection, exactly, limit, *ends)]


def find(
    connection: sa.Connection, settings: Settings, named: str, *, contents: bool = False
) -> RequestDetails:
    """Return the only request whose id begins like this; its contents are read only if asked for.

    Raises:
        UnknownId, AmbiguousId.
    """
    found = _get(connection, named)
    request = found.row
    batch = batches.get(connection, request.batch_id)
    delivery = coverage.of_request(connection, request.id)
    made = calls.of_request(connection, request.id)
    callback = json.loads(found.callback) if found.callback else {}
    return RequestDetails(
        **_facts(found),
        params_bytes=request.params_bytes,
        tags=requests.tags_of(connection, request.id),
        deadline_policy=_deadline_policy(request),
        is_late=_is_late(request),
        client_batch=request.client_batch,
        callback=callback.get("url") or callback.get("name"),
        delivery=DeliveryState(delivery.state) if delivery else None,
        delivery_error=delivery.last_error if delivery else None,
        failure=reason_of(requests.contents(connection, request).answer) if request.error else None,
        waiting_for=_waiting_for(connection, settings, found, batch),
        contents=_contents(connection, request) if contents else None,
        calls=[_call(one) for one in made],
        story=story(found, batch, delivery, dead_letters.tries(connection, request.id), made),
    )


def ids_of_client(connection: sa.Connection, client: str, since: Moment) -> Iterator[str]:
    """Yield the ids of all requests that a client has enqueued since then, in the order in which they were stored."""
    return results.of_client(connection, client, since)


def ids_in_batch(connection: sa.Connection, batch_id: str) -> RequestIds:
    """Return the ids of all requests of a batch, in their order."""
    return RequestIds(sorted(results.in_batch(connection, batch_id)))


def view_of(found: FoundRequest) -> RequestView:
    """Return a request as it is shown in lists."""
    return RequestView(**_facts(found))


def _get(connection: sa.Connection, named: str) -> FoundRequest:
    return requests.get(connection, lookup.request_id(connection, named))


def _facts(found: FoundRequest) -> dict[str, Any]:
    request = found.row
    return {
        "id": request.id,
        "client": request.client,
        "model": found.model,
        "lane": found.lane,
        "state": RequestState(request.state),
        "attempt": request.attempt,
        "outcome": request.outcome,
        "error": request.error,
        "batch_id": None if request.batch_id in (UNBATCHED, REAL_TIME) else request.batch_id,
        "priority": request.priority,
        "enqueued_at": request.enqueued_at,
        "submit_by": request.submit_by,
        "deadline": deadline_of(request),
        "retry_at": None if request.held_at else request.retry_at,
        "held_at": request.held_at,
        "finished_at": request.finished_at,
        **{name: getattr(request, name) for name in (*TOKENS, "cost", "list_price", "estimate")},
    }


def _waiting_for(
    connection: sa.Connection, settings: Settings, found: FoundRequest, batch: Batch | None
) -> str | None:
    request = found.row
    if request.held_at:
        return budgets.waiting_for(connection, settings, request, found.gateway_key)
    if batch and request.state == RequestState.BATCHED:
        return waits_for(batch, queue_context(connection, settings))
    if request.state == RequestState.BATCHED and request.batch_id == REAL_TIME:
        return "a call in real time"
    return f"another try at {time_of(request.retry_at)}" if request.retry_at else None


def _call(call: RealTimeCall) -> CallView:
    return CallView(
        state=CallState(call.state),
        submissions=call.submissions,
        estimate=call.estimate,
        cost=call.cost,
        batch_cost=call.batch_cost,
        error=call.last_error,
    )


def _deadline_policy(request: Request) -> DeadlinePolicy | None:
    if deadline_of(request) is None:
        return None
    return cast(DeadlinePolicy, request.deadline_policy or DEADLINE_POLICIES[0])


def _is_late(request: Request) -> bool | None:
    deadline = deadline_of(request)
    return None if deadline is None else (request.finished_at or now()) > deadline


def _contents(connection: sa.Connection, request: Request) -> Contents:
    kept = requests.contents(connection, request)
    return Contents(
        metadata=json.loads(request.request_metadata) if request.request_metadata else None,
        idempotency_key=request.idempotency_key,
        custom_id=request.custom_id,
        params=json.loads(kept.params) if kept.params else None,
        answer=json.loads(kept.answer) if kept.answer else None,
    )
