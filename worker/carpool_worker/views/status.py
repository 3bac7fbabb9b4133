"""How everything stands at a moment, for one screen: out of Redis, of Celery and of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import redis
import sqlalchemy as sa
from celery import Celery
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from carpool_worker.database import now, read
from carpool_worker.policies.windows import Opening, next_opening, parse_all
from carpool_worker.settings import Settings
from carpool_worker.states import BatchState
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.reports import lanes as lane_views
from carpool_worker.store.reports import status
from carpool_worker.store.reports.lanes import LaneView
from carpool_worker.store.reports.status import Deliveries, Finished, Mishap, Standing, Waiting
from carpool_worker.store.requests import reservations
from carpool_worker.units import DAY
from carpool_worker.views.vitals import Signs, ask

ANSWER_SECONDS = 1.0
"""How long workers have to answer that they are alive."""

MOST_ERRORS = 3


@dataclass(frozen=True)
class Overview:
    """How everything stands at a moment, in milliseconds since the epoch."""

    at: int
    signs: Signs
    queued: int  # requests at Anthropic
    queue_limit: int
    standings: Sequence[Standing]
    lost: Sequence[str]  # batches in doubt for longer than it can take to know
    overdue: Sequence[str]  # batches that Anthropic should have ended
    finished: Finished  # in the last day
    retryable: Waiting
    deliveries: Deliveries
    lanes: Sequence[LaneView]
    errors: Sequence[Mishap] = field(default_factory=list)
    opening: Opening | None = None  # of the windows, where they are closed
    held: Mapping[str, int] = field(default_factory=dict)  # requests that wait for their client's budget


def look(engine: sa.Engine, server: redis.Redis, settings: Settings) -> Overview:
    """Return how everything stands; where Redis is away, the tables still tell their part."""
    signs, at = _signs(server, settings.redis_url), now()
    doubt_policy = settings.doubt_policy
    with read(engine) as connection:
        submitting = batches.in_states(connection, [BatchState.SUBMITTING])
        failed_try = status.last_failed_try(connection)
        return Overview(
            at=at,
            signs=signs,
            queued=batch_queue.queued(connection),
            queue_limit=settings.queue_limit,
            standings=status.unfinished(connection),
            lost=[batch.id for batch in submitting if doubt_policy.gives_up_at(batch) < at],
            overdue=[batch.id for batch in batches.out(connection) if (batch.expires_at or at) < at],
            finished=status.finished_since(connection, at - DAY),
            retryable=status.retryable(connection),
            deliveries=status.delivering(connection, at, at - DAY),
            lanes=lane_views.active(connection),
            errors=[*status.troubled(connection, MOST_ERRORS), *([failed_try] if failed_try else [])],
            held=reservations.count_held(connection),
            opening=next_opening(parse_all(settings.submit_windows), at),
        )


def _signs(server: redis.Redis, url: str) -> Signs:
    try:
        return replace(ask(server), workers=_workers(url))
    except (RedisError, BrokerError, OSError) as error:
        return Signs(error=str(error).partition("\n")[0])


def _workers(url: str) -> list[str]:
    with Celery(broker=url, set_as_current=False) as asking:
        answers = asking.control.ping(timeout=ANSWER_SECONDS) or []
    return sorted(name for answer in answers for name in answer)
