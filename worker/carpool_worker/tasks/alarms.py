"""The alarms that tasks set when they are done, so that the next stage begins when it is due and not at beat's tick.

An alarm may be lost or come for nothing: its task asks the tables what is due, and when to be woken next.
"""

from __future__ import annotations

from carpool_worker.coordination.connections import server
from carpool_worker.coordination.keys import POLLED
from carpool_worker.coordination.wakeups import set_alarm
from carpool_worker.database import engine, now, read
from carpool_worker.pipeline.batching import aggregator
from carpool_worker.pipeline.collection import poller
from carpool_worker.policies.polling import PollPolicy
from carpool_worker.settings import settings
from carpool_worker.store.batches import queue
from carpool_worker.store.client_batches import rows as client_batches
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.requests import call_claims, reservations, staging
from carpool_worker.units import SECOND

STAGE_SECONDS = 1.0
"""Between runs of the stager at least: it is the safety net, and asks all tables."""

CALL_SECONDS = 0.5
"""Between runs that make calls in real time, while some wait for a rate limit or another run's."""


def wake_to_seal() -> None:
    """Wake the aggregator when the next open batch is due to be sealed."""
    _wake("aggregate", aggregator.seconds_until_due(engine(), settings().limits))


def wake_to_poll() -> None:
    """Wake the poller when the next batch is expected to have ended."""
    _wake("poll", poller.seconds_until_poll(engine(), _poll_policy()))


def may_poll() -> bool:
    """Return whether the last poll was long enough ago, and if so, count this as one; else wake the poller later."""
    least = round(_poll_policy().least * SECOND)
    if server().set(POLLED, 1, nx=True, px=least):
        return True
    _wake("poll", max(0, int(server().pttl(POLLED))) / SECOND)
    return False


def wake_to_stage() -> None:
    """Wake the stager when the next thing that waits is due, a second from now at the earliest."""
    with read(engine()) as connection:
        held = now() if reservations.clients_with_held(connection) else None
        due = [
            queue.next_due(connection),
            staging.next_due(connection),
            deliveries.next_due(connection, now()),
            client_batches.next_expiry(connection),
            held,
        ]
    times = [at for at in due if at is not None]
    if times:
        _wake("stage", max(STAGE_SECONDS, (min(times) - now()) / SECOND))


def wake_to_call() -> None:
    """Wake the calls in real time when the next one is due."""
    with read(engine()) as connection:
        due_at = call_claims.next_due(connection)
    if due_at is not None:
        _wake("call", max(CALL_SECONDS, (due_at - now()) / SECOND))


def look_again() -> None:
    """Wake the stager in a second, to find what a task has left to do, and when that is due."""
    _wake("stage", STAGE_SECONDS)


def wake_to_recount(seconds: float) -> None:
    """Have what waits counted again in so many seconds."""
    _wake("recount", seconds)


def _poll_policy() -> PollPolicy:
    return PollPolicy(settings().poll_interval)


def _wake(task: str, seconds: float | None) -> None:
    if seconds is not None:
        set_alarm(server(), task, seconds)
