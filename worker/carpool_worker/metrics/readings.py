"""What the metrics read from SQL: what indexes find quickly, and counts of what waits or has failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import redis
import sqlalchemy as sa
from redis.backoff import NoBackoff
from redis.retry import Retry

from carpool_worker.database import now, read
from carpool_worker.models import LanePause
from carpool_worker.policies.budgets import BudgetBalance
from carpool_worker.policies.windows import longest_closed, parse_all
from carpool_worker.settings import Settings
from carpool_worker.states import BatchState
from carpool_worker.store import gateway_keys, usage
from carpool_worker.store.batches import lane_pauses, refusals, totals, unowned, unseen, witnesses
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.batches.refusals import RefusalCount
from carpool_worker.store.batches.totals import Gone, Stay
from carpool_worker.store.batches.unseen import Unseen
from carpool_worker.store.reports import metrics, status
from carpool_worker.store.reports.metrics import ModelBatchCounts, RequestCount, Tries
from carpool_worker.store.reports.status import Deliveries
from carpool_worker.store.requests import reservations
from carpool_worker.store.usage import UsageRow
from carpool_worker.units import DAY
from carpool_worker.views import accounts, calls, durations
from carpool_worker.views.accounts import Queue
from carpool_worker.views.calls import CallsView
from carpool_worker.views.durations import DurationView

LATELY = 3_600_000
"""Milliseconds: how far back delivery attempts, and deliveries given up on, are counted."""

REDIS_SECONDS = 2.0
"""How long Redis may take to answer, without a retry: Prometheus waits 10 seconds by default."""


@dataclass(frozen=True)
class Readings:
    """What indexes find quickly; `lost` batches have been in doubt for longer than resolving a doubt can take."""

    standings: Sequence[ModelBatchCounts]
    gone: Sequence[Gone]
    stays: Sequence[Stay]
    refused: Sequence[RefusalCount]
    in_doubt: int
    lost: int
    unseen: Mapping[str | None, Unseen]  # by account: batches that no API key may see
    orphans: int  # ever found: batches at Anthropic with requests that others have, too
    run_twice: int  # of their requests: those that are known to have been answered there
    overdue: int  # Anthropic should have ended them by now
    queues: Mapping[str, Queue]  # at Anthropic, by account
    longest_closed: int  # seconds: the longest that submit_windows stay closed
    pauses: Mapping[str, LanePause]
    deliveries: Deliveries
    tries: Sequence[Tries]
    used: Sequence[UsageRow]
    used_today: Sequence[UsageRow]  # of this day, and of this month, in UTC
    used_this_month: Sequence[UsageRow]
    budgets: Mapping[str, BudgetBalance]  # of the clients with a budget of their own
    key_budgets: Mapping[str, BudgetBalance]  # of the keys of the gateway that have one
    held: Mapping[str, int]  # by client: requests over budget
    durations: Sequence[DurationView]  # what batches take that are posted now
    calls: Sequence[CallsView]  # in real time
    used_each_way: Sequence[UsageRow]  # by model and processing


@dataclass(frozen=True)
class Totals:
    """Counts that grow with a backlog: they read as many entries of partial indexes."""

    requests: Sequence[RequestCount]
    deliveries: Mapping[tuple[str, str], int]


def read_tables(engine: sa.Engine, settings: Settings) -> Readings:
    """Read partial indexes, the batches, the usage ledger and the newest delivery attempts."""
    at, doubt_policy = now(), settings.doubt_policy
    today = datetime.fromtimestamp(at / 1_000, UTC).date()
    with read(engine) as connection:
        submitting = batches.in_states(connection, [BatchState.SUBMITTING])
        fresh = witnesses.in_fresh_workspaces(connection, submitting)
        return Readings(
            standings=metrics.unfinished(connection),
            gone=totals.gone(connection),
            stays=totals.stays(connection),
            refused=refusals.counted(connection),
            in_doubt=sum(batch.in_doubt_at is not None for batch in submitting),
            unseen=unseen.by_account(connection),
            lost=sum(doubt_policy.gives_up_at(batch, batch.id in fresh) < at for batch in submitting),
            orphans=unowned.count_orphans(connection),
            run_twice=unowned.sum_twice(connection),
            overdue=sum((batch.expires_at or at) < at for batch in batches.out(connection)),
            queues=accounts.queues(connection, settings),
            longest_closed=longest_closed(parse_all(settings.submit_windows), at // DAY),
            pauses=lane_pauses.by_lane(connection),
            deliveries=status.delivering(connection, at, at - LATELY),
            tries=metrics.tries_since(connection, at - LATELY),
            used=usage.totals(connection, ("client", "model")),
            used_today=usage.totals(connection, ("client", "model"), today.isoformat()),
            used_this_month=usage.totals(connection, ("client", "model"), today.replace(day=1).isoformat()),
            budgets=reservations.balances(connection, settings.budgets, at),
            key_budgets=reservations.key_balances(connection, gateway_keys.all_with_budgets(connection), at),
            held=reservations.count_held(connection),
            durations=durations.learned(connection, at),
            calls=calls.load(connection, at),
            used_each_way=usage.totals(connection, ("model", "processing")),
        )


def count_rows(engine: sa.Engine) -> Totals:
    """Count the requests and deliveries that wait, or have failed."""
    with read(engine) as connection:
        return Totals(metrics.count_requests(connection), metrics.count_deliveries(connection))


def connect_briefly(settings: Settings) -> redis.Redis:
    """Return a connection to Redis that gives up after REDIS_SECONDS."""
    timeouts = {"socket_timeout": REDIS_SECONDS, "socket_connect_timeout": REDIS_SECONDS}
    return settings.redis(retry=Retry(NoBackoff(), 0), **timeouts)
