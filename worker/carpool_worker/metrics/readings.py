"""What is looked up for the metrics in SQL: the tables, and the counts that read whole tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import redis
import sqlalchemy as sa
from redis.backoff import NoBackoff
from redis.retry import Retry

from carpool_worker.database import now, read
from carpool_worker.models import LanePause
from carpool_worker.policies.budgets import Standing as OfBudget
from carpool_worker.policies.windows import DAY, longest_closed, parse_all
from carpool_worker.settings import Settings
from carpool_worker.states import BatchState
from carpool_worker.store import usage
from carpool_worker.store.batches import lane_pauses, refusals
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.batches.refusals import Refused
from carpool_worker.store.reports import metrics, status
from carpool_worker.store.reports.metrics import Counted, Gone, Standing, Stay, Tries
from carpool_worker.store.reports.status import Deliveries
from carpool_worker.store.requests import reservations
from carpool_worker.store.usage import Used

LATELY = 3_600_000
"""Milliseconds: how far back the tries to deliver, and the deliveries given up on, are counted."""

STAY_BOUNDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0)
"""Seconds: the buckets of the time in a state; most batches end within an hour, all within a day."""

REDIS_SECONDS = 2.0
"""How long Redis may take to answer; it is asked once, as Prometheus waits 10 seconds by default."""


@dataclass(frozen=True)
class Seen:
    """What the tables tell at once; `lost` batches have been in doubt for longer than it can take to know."""

    standings: Sequence[Standing]
    gone: Sequence[Gone]
    stays: Sequence[Stay]
    refused: Sequence[Refused]
    in_doubt: int
    lost: int
    overdue: int  # Anthropic should have ended them
    queued: int  # requests at Anthropic
    queue_limit: int
    longest_closed: int  # seconds in which submit_windows hold batches back, at most
    pauses: Mapping[str, LanePause]
    deliveries: Deliveries
    tries: Sequence[Tries]
    used: Sequence[Used]
    budgets: Mapping[str, OfBudget]  # of the clients with a budget of their own
    held: Mapping[str, int]  # requests that wait for their client's budget


@dataclass(frozen=True)
class Totals:
    """What only a look at every row tells."""

    requests: Sequence[Counted]
    deliveries: Mapping[tuple[str, str], int]


def look(engine: sa.Engine, settings: Settings) -> Seen:
    """Look at the tables: reads partial indexes, the batches, the ledger and the newest tries."""
    at, patience = now(), settings.doubt_policy
    with read(engine) as connection:
        submitting = batches.in_states(connection, [BatchState.SUBMITTING])
        return Seen(
            standings=metrics.unfinished(connection),
            gone=metrics.gone(connection),
            stays=metrics.stays(connection, STAY_BOUNDS),
            refused=refusals.counted(connection),
            in_doubt=sum(batch.in_doubt_at is not None for batch in submitting),
            lost=sum(patience.ends(batch) < at for batch in submitting),
            overdue=sum((batch.expires_at or at) < at for batch in batches.out(connection)),
            queued=batch_queue.queued(connection),
            queue_limit=settings.queue_limit,
            longest_closed=longest_closed(parse_all(settings.submit_windows), at // DAY),
            pauses=lane_pauses.by_lane(connection),
            deliveries=status.delivering(connection, at, at - LATELY),
            tries=metrics.tries_since(connection, at - LATELY),
            used=usage.totals(connection, ("client", "model")),
            budgets=reservations.standings(connection, settings.budgets, at),
            held=reservations.count_held(connection),
        )


def count(engine: sa.Engine) -> Totals:
    """Count all requests and deliveries."""
    with read(engine) as connection:
        return Totals(metrics.count_requests(connection), metrics.count_deliveries(connection))


def impatient(redis_url: str) -> redis.Redis:
    """Return a connection to Redis that gives up soon."""
    timeouts = {"socket_timeout": REDIS_SECONDS, "socket_connect_timeout": REDIS_SECONDS}
    return redis.Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0), **timeouts)
