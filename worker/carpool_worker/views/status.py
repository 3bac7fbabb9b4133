"""The status: how everything stands at a moment, from Redis, from Celery and from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import redis
import sqlalchemy as sa
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from carpool_worker.app import inquirer
from carpool_worker.database import now, read
from carpool_worker.models import UnownedBatch
from carpool_worker.policies.windows import Opening, next_opening
from carpool_worker.settings import Settings
from carpool_worker.states import BatchState
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.batches import unowned, unseen, witnesses
from carpool_worker.store.batches.unseen import Unseen
from carpool_worker.store.reports import status as report
from carpool_worker.store.reports.status import BatchCounts, Deliveries, Finished, Mishap, WaitingCount
from carpool_worker.store.requests import reservations
from carpool_worker.units import DAY, HOUR, SECOND
from carpool_worker.views import accounts, calls, durations, lanes
from carpool_worker.views.accounts import Queue
from carpool_worker.views.calls import CallsView
from carpool_worker.views.durations import DurationView
from carpool_worker.views.encoding import Moment, plain
from carpool_worker.views.lanes import LaneView
from carpool_worker.views.quotas import QuotaView, read_quotas
from carpool_worker.views.turns import ClientTurnView, queues
from carpool_worker.views.vitals import Vitals, read_vitals

ANSWER_SECONDS = 1.0
"""How long workers have to answer that they are alive."""

MOST_ERRORS = 3

UNREAD = HOUR
"""Milliseconds after a batch's end: what keeps its results from being read for longer does not pass by itself."""


@dataclass(frozen=True)
class Status:
    """How everything stands at a moment; times are milliseconds since the epoch, money is in dollars."""

    at: Moment
    vitals: Vitals
    queues: Mapping[str, Queue]  # at Anthropic, by account
    batches: Sequence[BatchCounts]  # that are not finished, by state
    long_in_doubt: Sequence[str]  # ids of batches in doubt for longer than a search takes
    overdue: Sequence[str]  # ids of batches that Anthropic should have ended
    finished: Finished  # in the last day
    retryable: WaitingCount
    deliveries: Deliveries
    lanes: Sequence[LaneView]
    errors: Sequence[Mishap] = field(default_factory=list)
    orphans: Sequence[UnownedBatch] = ()  # found in the last day: batches with requests that others have, too
    opening: Opening | None = None  # of the submit windows, while they are closed
    held: Mapping[str, int] = field(default_factory=dict)  # requests over budget, by client
    durations: Sequence[DurationView] = ()  # what batches take that are posted now
    turns: Sequence[ClientTurnView] = ()  # of clients, where there is not room for all; the next first
    unread: Sequence[str] = ()  # ids of batches that ended long ago, and whose results can't be read
    calls: Sequence[CallsView] = ()  # in real time, by account and model
    quotas: Sequence[QuotaView] = ()  # of clients, the fullest first
    unseen: Mapping[str | None, Unseen] = field(
        default_factory=dict
    )  # batches that no key may see, by account

    @property
    def queue(self) -> Queue:
        """The queues of all accounts together."""
        return Queue(*map(sum, zip(*self.queues.values(), strict=True)))


def status(
    engine: sa.Engine, server: redis.Redis, settings: Settings, workers: Sequence[str] | None = None
) -> Status:
    """Return how everything stands; if Redis can't be used, `vitals.error` is the reason, and the rest is there.

    Given the names of workers that answered lately, nobody waits until they answer again.
    """
    vitals, at = _vitals(server, settings, workers), now()
    doubt = settings.doubt_policy
    with read(engine) as connection:
        submitting = batches.in_states(connection, [BatchState.SUBMITTING])
        ended = batches.in_states(connection, [BatchState.ENDED])
        fresh = witnesses.in_fresh_workspaces(connection, submitting)
        failed_try = report.last_failed_try(connection)
        return Status(
            at=at,
            vitals=vitals,
            queues=accounts.queues(connection, settings),
            batches=report.unfinished(connection),
            long_in_doubt=[
                batch.id for batch in submitting if doubt.gives_up_at(batch, batch.id in fresh) < at
            ],
            orphans=unowned.orphans_since(connection, at - DAY),
            overdue=[batch.id for batch in batches.out(connection) if (batch.expires_at or at) < at],
            finished=report.finished_since(connection, at - DAY),
            retryable=report.retryable(connection),
            deliveries=report.delivering(connection, at, at - DAY),
            lanes=lanes.active(connection),
            errors=[*report.troubled(connection, MOST_ERRORS), *([failed_try] if failed_try else [])],
            unread=[batch.id for batch in ended if (batch.ended_at or at) < at - UNREAD and batch.last_error],
            held=reservations.count_held(connection),
            turns=queues(connection, settings).clients,
            unseen=unseen.by_account(connection),
            quotas=[] if vitals.error else _quotas(server),
            opening=next_opening(settings.limits.windows, at),
            durations=durations.learned(connection, at),
            calls=calls.load(connection, at),
        )


@dataclass(frozen=True)
class _Batches:
    batches: int
    requests: int
    oldest_age: float


@dataclass(frozen=True)
class _Retryable:
    requests: int
    next_at: Moment | None


@dataclass(frozen=True)
class _Times:
    at: Moment
    submit_windows_open_at: Moment | None


def facts(status: Status) -> dict[str, Any]:
    """Return the status for programs: times are RFC 3339, ages seconds, money dollars as text."""
    vitals = status.vitals
    times: dict[str, Any] = plain(_Times(status.at, status.opening.at if status.opening else None))
    return times | {
        "workers": list(vitals.workers),
        "beat_age": vitals.beat_age,
        "redis_error": vitals.error,
        "inbox": {
            "requests": vitals.inbox,
            "oldest_age": vitals.oldest_age,
            "quarantined": vitals.quarantined,
        },
        "queue": {"requests": status.queue.requests, "limit": status.queue.limit},
        "accounts": {name: queue._asdict() for name, queue in status.queues.items()},
        "batches": _batch_facts(status),
        "finished_in_a_day": plain(status.finished._asdict()),
        "retryable": plain(_Retryable(status.retryable.rows, status.retryable.at)),
        "held": dict(status.held),
        "quotas": [plain(one) for one in status.quotas],
        "turns": [plain(one) for one in status.turns],
        "deliveries": _delivery_facts(status),
        "durations": {
            one.model: {"p50": one.half_within, "p95": one.most_within} for one in status.durations
        },
        "calls": [plain(one) for one in status.calls],
        "lanes": [
            {"lane": one.lane, "open": one.open_requests, "paused": one.reason} for one in status.lanes
        ],
        "errors": [mishap._asdict() for mishap in status.errors],
    }


def _batch_facts(status: Status) -> Any:
    ages = {one.state: (status.at - one.opened_at) / SECOND for one in status.batches}
    return plain({one.state: _Batches(one.batches, one.requests, ages[one.state]) for one in status.batches})


def _delivery_facts(status: Status) -> dict[str, Any]:
    deliveries = status.deliveries
    due_at = deliveries.due.at
    return {
        "due": deliveries.due.rows,
        "oldest_due_age": None if due_at is None else (status.at - due_at) / SECOND,
        "retryable": deliveries.retryable.rows,
        "dead": deliveries.dead,
        "dead_in_a_day": deliveries.dead_lately,
        "stopped_endpoints": deliveries.stopped_endpoints,
        "failing_endpoints": deliveries.failing_endpoints,
        "full": list(deliveries.full),
    }


def _vitals(server: redis.Redis, settings: Settings, workers: Sequence[str] | None) -> Vitals:
    try:
        answering = answering_workers(settings) if workers is None else workers
        return replace(read_vitals(server), workers=answering)
    except (RedisError, BrokerError, OSError) as error:
        return Vitals(error=str(error).partition("\n")[0])


def _quotas(server: redis.Redis) -> Sequence[QuotaView]:
    try:
        return read_quotas(server)
    except RedisError:  # since the vitals were read
        return []


def answering_workers(settings: Settings) -> list[str]:
    """Return the names of the workers that answer within ANSWER_SECONDS, and not before they are over.

    Raises:
        kombu.exceptions.OperationalError, redis.RedisError: the broker is away.
    """
    with inquirer(settings) as asking:
        answers = asking.control.ping(timeout=ANSWER_SECONDS) or []
    return sorted(name for answer in answers for name in answer)
