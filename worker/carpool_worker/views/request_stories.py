"""What happened to a request, in order of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from carpool_worker.formatting import age, counted, dollars
from carpool_worker.models import Batch, RealTimeCall, Request
from carpool_worker.pipeline.batching.spooled_creates import FORBIDDEN, INVALID
from carpool_worker.store.deliveries.coverage import Covering
from carpool_worker.store.deliveries.dead_letters import Try
from carpool_worker.store.reports.requests import FoundRequest
from carpool_worker.store.requests.rows import REAL_TIME, UNBATCHED
from carpool_worker.views.batches import StoryEvent
from carpool_worker.views.batches import events as events_of_batch

REFUSALS = (INVALID, FORBIDDEN)  # the errors of requests of clients' batches that were never sent


def deadline_of(request: Request) -> int | None:
    """Return when a request's answer should be there, in milliseconds since the epoch; a client's batch has none."""
    return request.deadline if request.client_batch is None else None


def story(
    found: FoundRequest,
    batch: Batch | None,
    delivery: Covering | None,
    tries: Sequence[Try],
    calls: Sequence[RealTimeCall] = (),
) -> list[StoryEvent]:
    """Return what happened to a request, in order of time."""
    events = [*_begins(found), *_goes_out(batch), *_is_called(calls), *_ends(found.row)]
    events += _is_delivered(delivery, tries)
    return sorted(events, key=lambda event: event.at)


def _begins(found: FoundRequest) -> Iterator[StoryEvent]:
    request, size = found.row, counted(found.row.params_bytes, "byte")
    yield StoryEvent(request.enqueued_at, f"enqueued by {request.client} for {found.model}, {size}")
    if request.batch_id == UNBATCHED:
        is_refused = request.client_batch is not None and request.error in REFUSALS
        why = "it breaks a rule" if is_refused else "its budget had no room for it"
        yield StoryEvent(found.batched_at, f"put aside: {why}")
    elif request.batch_id != REAL_TIME:
        yield StoryEvent(
            found.batched_at, f"put into batch {request.batch_id}, for attempt {request.attempt}"
        )
    if request.cancel_requested_at:
        yield StoryEvent(request.cancel_requested_at, "its cancellation was requested")


def _goes_out(batch: Batch | None) -> Iterator[StoryEvent]:
    if batch is not None:
        ours = (batch.opened_at, batch.finished_at)
        yield from (
            StoryEvent(at, f"its batch: {words}")
            for at, words in events_of_batch(batch, ())
            if at not in ours
        )


def _is_called(calls: Sequence[RealTimeCall]) -> Iterator[StoryEvent]:
    for one in calls:
        how = "to be called in real time" if one.batch_id is None else "to be called in real time as well"
        yield StoryEvent(one.queued_at, f"{how}, for {dollars(one.estimate)} at most")
        if one.calling_at:
            yield StoryEvent(one.calling_at, f"called, try {one.submissions}")
        if one.finished_at:
            error = f": {one.last_error}" if one.last_error else ""
            cost = f" · {dollars(one.cost)}" if one.cost is not None else ""
            yield StoryEvent(one.finished_at, f"its call: {one.state}{error}{cost}")
        if one.batch_billed_at and one.batch_cost is not None:
            yield StoryEvent(one.batch_billed_at, f"its batch answered, too · {dollars(one.batch_cost)}")


def _ends(request: Request) -> Iterator[StoryEvent]:
    if request.finished_at is None:
        return
    used = (
        f" · {request.input_tokens:,} tokens in, {request.output_tokens:,} out"
        if request.output_tokens
        else ""
    )
    cost = f" · {dollars(request.cost)}" if request.cost is not None else ""
    deadline, late = deadline_of(request), ""
    if deadline is not None and request.finished_at > deadline:
        late = f" · {age(request.finished_at - deadline)} late"
    error = f" by {request.error}" if request.error else ""
    yield StoryEvent(request.finished_at, f"{request.state}: {request.outcome}{error}{used}{cost}{late}")


def _is_delivered(delivery: Covering | None, tries: Sequence[Try]) -> Iterator[StoryEvent]:
    for one in tries:
        answer = ", ".join(str(part) for part in (one.status, one.detail) if part is not None)
        yield StoryEvent(one.at, f"delivery, try {one.attempt}: {answer or 'sent'} ({one.milliseconds:,} ms)")
    if delivery and delivery.delivered_at:
        yield StoryEvent(delivery.delivered_at, f"delivered to {delivery.target}")
    if delivery and delivery.discarded_at:
        yield StoryEvent(delivery.discarded_at, f"delivery given up on: {delivery.last_error}")
