"""Batches: what each contains, its state, what it waits for; and the story of one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker.formatting import contents, outcome
from carpool_worker.models import Batch, UnownedBatch
from carpool_worker.policies.accounts import shown
from carpool_worker.settings import Settings
from carpool_worker.states import OUTCOMES, BatchState
from carpool_worker.store.batches import turns, unowned
from carpool_worker.store.reports import batches
from carpool_worker.views import lookup
from carpool_worker.views.encoding import Moment
from carpool_worker.views.wait_reasons import QueueContext, queue_context, waits_for


class StoryEvent(NamedTuple):
    """Something that happened, in a sentence without a subject."""

    at: Moment
    words: str


@dataclass(frozen=True, kw_only=True)
class BatchView:
    """A batch; its age is in seconds, its size in bytes, its cost in dollars."""

    id: str
    model: str
    lane: str
    account: str
    state: BatchState
    age: int
    requests: int
    clients: Mapping[
        str, int
    ]  # requests of each; empty until there is not room for all, and they are counted
    bytes: int
    priority: int
    submit_by: Moment | None
    deadline: Moment | None  # the earliest of its requests
    waiting_for: str  # empty once it has ended
    last_error: str | None
    claude_id: str | None
    submissions: int
    opened_at: Moment
    finished_at: Moment | None
    succeeded: int
    errored: int
    canceled: int
    expired: int
    cost: Decimal | None
    list_price: Decimal | None

    @property
    def outcomes(self) -> dict[str, int]:
        """How many of its requests have which outcome."""
        return {name: getattr(self, name) for name in OUTCOMES}


@dataclass(frozen=True, kw_only=True)
class BatchDetails(BatchView):
    """A batch with the states of the requests that are in it now, and what happened to it, in order of time."""

    request_states: Mapping[str, int]
    story: Sequence[StoryEvent]


@dataclass(frozen=True, kw_only=True)
class BatchFilter:
    """Which batches; a field that is empty or None does not restrict them."""

    states: Sequence[BatchState] = ()
    model: str | None = None
    since: Moment | None = None  # opened then or later


def page(
    connection: sa.Connection,
    settings: Settings,
    wanted: BatchFilter,
    limit: int,
    before: str | None = None,
    after: str | None = None,
) -> list[BatchView]:
    """Return the newest `limit` of these batches, newest last: those before one batch, or the next after one.

    Raises:
        UnknownId, AmbiguousId: of `before` or `after`, which may be the beginnings of ids.
    """
    ends = [lookup.batch_id(connection, named) if named else None for named in (before, after)]
    found = batches.page(connection, limit, wanted.states, wanted.model, wanted.since, *ends)
    context = queue_context(connection, settings)
    return [BatchView(**_facts(batch, context)) for batch in found]


def find(connection: sa.Connection, settings: Settings, named: str) -> BatchDetails:
    """Return the batch with this id, Carpool's or Anthropic's, or the only one whose id begins like this.

    Raises:
        UnknownId, AmbiguousId.
    """
    id_ = lookup.batch_id(connection, named)
    batch = batches.find(connection, id_)
    if batch is None:
        raise lookup.UnknownId(f"there is no batch {named}")
    return BatchDetails(
        **_facts(batch, queue_context(connection, settings)),
        request_states=batches.request_states(connection, id_),
        story=story(batch, batches.parts(connection, id_), unowned.orphans_of(connection, id_)),
    )


def story(batch: Batch, parts: Sequence[str], orphans: Sequence[UnownedBatch] = ()) -> list[StoryEvent]:
    """Return what happened to a batch, in order of time; `parts` are the batches that it was split into."""
    return sorted([*events(batch, parts), *map(_orphaned, orphans)], key=lambda event: event.at)


def _orphaned(orphan: UnownedBatch) -> StoryEvent:
    if orphan.is_lost:
        how = "no post of it is in the tables, which have lost rows"
    else:
        how = "posted late, and canceled" if orphan.settled_at else "posted late, and still to be canceled"
    return StoryEvent(orphan.found_at, f"{orphan.claude_id} found at Anthropic with its requests, too: {how}")


def events(batch: Batch, parts: Sequence[str]) -> Iterator[StoryEvent]:
    """Yield what happened to a batch."""
    yield StoryEvent(batch.opened_at, f"opened in lane {batch.lane}")
    if batch.sealed_at:
        origin = f", a part of {batch.parent_id}" if batch.parent_id else ""
        yield StoryEvent(
            batch.sealed_at, f"sealed: {contents(batch.request_count, batch.body_bytes)}{origin}"
        )
        if marked := json.loads(batch.marked or "[]"):
            first = f"; batch {batch.warm_up_id} goes ahead to warm it up" if batch.warm_up_id else ""
            yield StoryEvent(batch.sealed_at, f"shared prompts marked for the cache: {len(marked)}{first}")
    yield from _at_anthropic(batch)
    if batch.finished_at:
        is_split = parts and batch.state == BatchState.REJECTED  # the part of a completed one is its warm-up
        into = f" into {', '.join(parts)}" if is_split else ""
        how = (
            outcome(batch.outcomes, batch.cost, batch.list_price)
            or batch.last_error
            or "not sent, all of its requests were canceled"
        )
        yield StoryEvent(batch.finished_at, f"{batch.state}{into}: {how}")


def _at_anthropic(batch: Batch) -> Iterator[StoryEvent]:
    if batch.submitting_at:
        yield StoryEvent(batch.submitting_at, f"post {batch.submissions} began")
    if batch.in_doubt_at:
        disowned = len(json.loads(batch.disowned_ids))
        others = f"; {disowned} that looked like it turned out to be others" if disowned else ""
        yield StoryEvent(batch.in_doubt_at, f"in doubt: the post may or may not have made a batch{others}")
    if batch.in_progress_at and batch.claude_id:
        how = "found and adopted" if batch.in_doubt_at else "taken by Anthropic"
        yield StoryEvent(batch.in_progress_at, f"{how} as {batch.claude_id}")
    if batch.stopped_at:
        yield StoryEvent(
            max(batch.stopped_at, batch.in_progress_at or 0), "found canceled at Anthropic's console"
        )
    if batch.ended_at:
        # By Anthropic's clock, in whole seconds: it can seem to have ended before it began.
        ended_at = max(batch.ended_at, batch.in_progress_at or 0)
        yield StoryEvent(
            ended_at, f"ended: {', '.join(f'{count:,} {name}' for name, count in batch.outcomes.items())}"
        )


def _facts(batch: Batch, context: QueueContext) -> dict[str, Any]:
    return {
        "id": batch.id,
        "model": batch.model,
        "lane": batch.lane,
        "account": shown(batch.account),
        "state": BatchState(batch.state),
        "age": (context.at - batch.opened_at) // 1_000,
        "requests": batch.request_count,
        "clients": turns.clients_of(batch),
        "bytes": batch.body_bytes,
        "priority": batch.priority,
        "submit_by": batch.submit_by,
        "deadline": batch.deadline,
        "waiting_for": waits_for(batch, context),
        "last_error": batch.last_error,
        "claude_id": batch.claude_id,
        "submissions": batch.submissions,
        "opened_at": batch.opened_at,
        "finished_at": batch.finished_at,
        **batch.outcomes,
        "cost": batch.cost,
        "list_price": batch.list_price,
    }
