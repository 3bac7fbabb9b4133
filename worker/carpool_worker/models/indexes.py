"""The partial indexes and their conditions.

A database uses a partial index only if the query implies its condition, which SQLite recognizes only if both have the
same words. So queries use the conditions of this module.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from carpool_worker.models.tables import (
    batches,
    client_batches,
    deliveries,
    real_time_calls,
    requests,
    segments,
    unowned,
)
from carpool_worker.states import BatchState, CallState, DeliveryState


def _literals(*states: BatchState | CallState | DeliveryState) -> list[sa.ColumnElement[Any]]:
    # With parameters, a prepared statement cannot use the index.
    return [sa.literal_column(f"'{state.value}'") for state in states]


OPEN = batches.c.state == _literals(BatchState.OPEN)[0]
"""A lane has at most one open batch a shard."""

UNFINISHED = batches.c.finished_at.is_(None)
"""Batches that are neither completed nor rejected."""


def unfinished(*states: BatchState) -> sa.ColumnElement[bool]:
    """Return the condition that a batch is in one of these states, none of them final, as their index finds it.

    Of the state alone no database concludes that the batch is unfinished, and reads all that ever were.
    """
    return sa.and_(UNFINISHED, batches.c.state.in_(states))


FINISHED = batches.c.finished_at.is_not(None)
"""All others."""

PARTS = batches.c.parent_id.is_not(None)
"""Batches that were split from another."""

UNTALLIED = batches.c.tallied_at.is_(None)
"""Batches that are not in the totals yet: those that are unfinished, and those that have just finished."""

MARKED = batches.c.marked != sa.literal_column("'[]'")
"""Batches with prefixes that are marked for the cache."""

RETRYABLE = requests.c.retry_at.is_not(None)
"""Requests that wait to be staged. Not by their state: then PostgreSQL would write all indexes at every transition."""

CANCEL_REQUESTED = requests.c.cancel_requested_at.is_not(None)
"""Requests to cancel, ended ones included: without those, every ending would write all indexes, as above."""

ESTIMATED = requests.c.estimate.is_not(None)
"""Requests that reserve some of their client's budget, or are held."""

WITH_DEADLINE = sa.and_(requests.c.deadline.is_not(None), requests.c.client_batch.is_(None))
"""Requests whose answers should be there at some time. Those of clients' batches have a deadline when they expire."""

WATCHED = (requests.c.batch_id, requests.c.deadline, requests.c.deadline_policy)
"""What is asked of those."""

FAILED = requests.c.error.is_not(None)
"""Requests that ended with an error."""

KEYED = segments.c.keyed > sa.literal_column("0")
"""Segments with requests whose idempotency keys are kept."""

UNKEYED = segments.c.requests > segments.c.keyed
"""Segments with requests that have none."""

AVAILABLE = deliveries.c.state == _literals(DeliveryState.AVAILABLE)[0]
"""Deliveries to be claimed."""

ASIDE = deliveries.c.state.in_(_literals(DeliveryState.DELIVERING, DeliveryState.RETRYABLE))
"""Deliveries that are claimed, or wait for another try."""

DEAD = deliveries.c.discarded_at.is_not(None)
"""Deliveries that were given up: dead letters."""


UNSETTLED = unowned.c.settled_at.is_(None)
"""Batches at Anthropic that no batch of ours owns, and that are still to be canceled."""

ORPHANED = unowned.c.batch_id.is_not(None)
"""Those of them that have requests of ours."""

STRANGE = unowned.c.batch_id.is_(None)
"""Batches at Anthropic that are other programs'."""

UNENDED = client_batches.c.ended_at.is_(None)
"""Clients' batches with requests that have not ended."""

UNARCHIVED = client_batches.c.archived_at.is_(None)
"""Clients' batches whose results are kept, or not there yet."""

UNFINISHED_CALLS = real_time_calls.c.finished_at.is_(None)
"""Calls that are due or under way."""

LOST_CALLS = real_time_calls.c.state == _literals(CallState.LOST)[0]
"""Calls that may have been made and billed."""

WITH_KEY = client_batches.c.idempotency_key.is_not(None)
"""Clients' batches that came with an idempotency key."""


def _partial(
    name: str, condition: sa.ColumnElement[bool], *columns: sa.Column[Any], unique: bool = False
) -> None:
    sa.Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


_partial("uq_batches_open_lane", OPEN, batches.c.lane, batches.c.shard, unique=True)
_partial("ix_batches_unfinished", UNFINISHED, batches.c.state)
_partial("ix_batches_finished", FINISHED, batches.c.finished_at)
_partial("ix_batches_parent", PARTS, batches.c.parent_id)
_partial("ix_batches_untallied", UNTALLIED, batches.c.finished_at)
_partial("ix_batches_marked", MARKED, batches.c.lane, batches.c.ended_at)
_partial("ix_requests_retryable", RETRYABLE, requests.c.retry_at)
_partial("ix_requests_cancel_requested", CANCEL_REQUESTED, requests.c.batch_id)
_partial("ix_requests_deadline", WITH_DEADLINE, *WATCHED)
_partial("ix_requests_failed", FAILED, requests.c.batch_id)
_partial("ix_requests_estimated", ESTIMATED, requests.c.client, requests.c.held_at, requests.c.estimate)
_partial("ix_segments_keyed", KEYED, segments.c.id)
_partial("ix_segments_unkeyed", UNKEYED, segments.c.id)
_partial(
    "ix_deliveries_available", AVAILABLE, deliveries.c.receiver, deliveries.c.client, deliveries.c.due_at
)
_partial("ix_deliveries_aside", ASIDE, deliveries.c.state, deliveries.c.due_at)
_partial("ix_deliveries_discarded", DEAD, deliveries.c.discarded_at)
_partial("ix_unowned_batches_unsettled", UNSETTLED, unowned.c.found_at)
_partial("ix_unowned_batches_orphans", ORPHANED, unowned.c.found_at)
_partial("ix_unowned_batches_strangers", STRANGE, unowned.c.found_at)
_partial("ix_client_batches_unended", UNENDED, client_batches.c.expires_at)
_partial("ix_client_batches_unarchived", UNARCHIVED, client_batches.c.created_at)
_partial(
    "ix_real_time_calls_unfinished",
    UNFINISHED_CALLS,
    real_time_calls.c.account,
    real_time_calls.c.deadline,
)
_partial("ix_real_time_calls_lost", LOST_CALLS, real_time_calls.c.finished_at)
_partial(
    "uq_client_batches_key", WITH_KEY, client_batches.c.client, client_batches.c.idempotency_key, unique=True
)
