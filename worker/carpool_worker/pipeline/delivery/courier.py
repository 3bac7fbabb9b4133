"""The courier claims deliveries that are due and hands each to its channel, many at a time.

Delivery is at least once: a courier killed between sending and recording leaves its deliveries claimed. When their
lease ends they become available again, and receivers get the same `webhook-id` a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TypeVar

import celery
import sqlalchemy as sa

from carpool_worker.pipeline.delivery import claims
from carpool_worker.pipeline.delivery.channels import Channel, Channels
from carpool_worker.pipeline.delivery.channels.celery_task import TaskChannel
from carpool_worker.pipeline.delivery.channels.webhook import WebhookChannel
from carpool_worker.pipeline.delivery.claims import ClaimedDelivery
from carpool_worker.pipeline.delivery.concurrency import ReceiverLimits
from carpool_worker.pipeline.delivery.in_flight import CHUNK_DELIVERIES, InFlight
from carpool_worker.policies.deliveries import Event, Sent
from carpool_worker.settings import Settings
from carpool_worker.states import DELIVER
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import DAY, SECOND, Milliseconds

RUN_SECONDS = 20.0
"""How long a run claims deliveries; the next run takes over."""

DRAIN_SECONDS = 5.0
"""How long it keeps sending after that; then it gives back what still waits."""

LEASE_MARGIN_SECONDS = 10.0
"""How long a claim outlasts a run's last post."""

RECORD_SECONDS = 0.03
"""Between records: outcomes are written in groups."""

CLAIM_SECONDS = 1.0
"""Between claims once nothing is due but deliveries are still in flight."""

RETRY_SECONDS = 1.0
"""Between tries to record outcomes while the database is away."""

SLOW_SECONDS = 5.0
"""A receiver that takes this long is slow: it gets one delivery at a time."""

STALL_SECONDS = 1.0
"""Without room for another chunk, after which the deliveries to the slowest receivers are given back."""

LOOKUPS = 64
"""Host names looked up at a time, a thread each."""

BUSY = Sent(Event.DEFERRED, "not sent yet: its receiver is slow, and others came first")
CLOGGED = Sent(Event.DEFERRED, "not sent yet: its receiver is slow, and enough wait for it", retry_after=30.0)
"""Deferred for half a minute: a receiver that hangs isn't tried all the time, and one that was slow once is soon tried
again."""

GONE = Sent(Event.REFUSED, "not sent: the request is no longer kept")

log = get_logger(__name__)

T = TypeVar("T")


def deliver(engine: sa.Engine, app: celery.Celery, settings: Settings) -> int:
    """Deliver what is due, for about a minute at most; return how many deliveries their receivers accepted.

    The `carpool.deliver` task calls it, whenever the stager or the collector finds deliveries that are due; any number
    of couriers may run at once. Each chunk is claimed in a transaction of its own and sent outside any; outcomes are
    committed in groups, some 30 ms apart. A crash leaves what was claimed in `delivering`: when the lease ends it is
    delivered again, under the same `webhook-id`. Webhooks go out as `settings` allow, tasks through `app`.

    Raises:
        sqlalchemy.exc.OperationalError: the database is away, and nothing is in flight or the leases have ended.
    """
    return asyncio.run(_deliver(engine, app, settings))


async def _deliver(engine: sa.Engine, app: celery.Celery, settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(LOOKUPS, "courier-lookup"))
    async with WebhookChannel(settings) as webhook:
        with TaskChannel(app, settings) as task:
            channels: Channels = {"webhook": webhook, "task": task}
            return await DeliveryRun(engine, channels, settings).run()


class DeliveryRun:
    """One run of the courier."""

    def __init__(self, engine: sa.Engine, channels: Channels, settings: Settings) -> None:
        self._engine = engine
        self._channels = channels
        self._settings = settings
        self._in_flight = InFlight(settings.webhook_schedule)
        self._limits = ReceiverLimits[ClaimedDelivery](
            settings.webhook_concurrency, settings.webhook_host_concurrency, self._start
        )
        self._began = self._had_room = monotonic()
        longest = RUN_SECONDS + DRAIN_SECONDS + settings.webhook_timeout
        self._lease_ends = self._began + longest + LEASE_MARGIN_SECONDS
        self._claims_at = self._records_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        # A thread of its own: the loop's others may all be looking up the names of hosts that don't answer.
        self._database = ThreadPoolExecutor(1, "courier-database")

    async def run(self) -> int:
        """Claim, send and record until nothing is due or the time is up; return how many were delivered."""
        with self._database:
            return await self._run()

    async def _run(self) -> int:
        while await self._claim_due() or not self._in_flight.is_empty:
            await asyncio.sleep(RECORD_SECONDS)
            await self._record()
            self._give_back()
        self._report()
        return self._in_flight.tally[DELIVER.target]

    async def _claim_due(self) -> bool:
        """Claim while there is room and anything due; return whether anything was claimed."""
        claimed = False
        while self._may_claim():
            chunk = await self._claim()
            if len(chunk) < CHUNK_DELIVERIES:
                self._claims_at = monotonic() + CLAIM_SECONDS
            for delivery in chunk:
                self._dispatch(delivery)
            claimed = claimed or bool(chunk)
        return claimed

    async def _claim(self) -> list[ClaimedDelivery]:
        try:
            lease = Milliseconds(round((self._lease_ends - monotonic()) * SECOND))
            return await self._in_database(claims.claim, CHUNK_DELIVERIES, lease)
        except claims.AWAY:
            if self._in_flight.is_empty:
                raise
            return []

    def _may_claim(self) -> bool:
        if not self._in_flight.has_room:
            return False
        self._had_room = monotonic()
        return self._claims_at <= self._had_room < self._began + RUN_SECONDS

    def _dispatch(self, delivery: ClaimedDelivery) -> None:
        self._in_flight.add(delivery)
        receiver = self._channels[delivery.claimed.channel].receiver(delivery.claimed.target)
        if delivery.outgoing is None:
            self._in_flight.settle(delivery, GONE)
        elif delivery.stopped:
            self._in_flight.settle(
                delivery, Sent(Event.REFUSED, f"not sent: its endpoint was stopped, it {delivery.stopped}")
            )
        elif self._limits.is_clogged(receiver):
            self._in_flight.settle(delivery, CLOGGED)
        else:
            self._limits.add(receiver, delivery, delivery.is_failing)

    def _start(self, receiver: str, delivery: ClaimedDelivery) -> None:
        task = asyncio.create_task(self._send(receiver, delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, receiver: str, delivery: ClaimedDelivery) -> None:
        start = monotonic()
        sent = await send(self._channels[delivery.claimed.channel], delivery)
        seconds = monotonic() - start
        self._in_flight.settle(delivery, sent, seconds)
        self._limits.finish(receiver, quick=seconds < min(SLOW_SECONDS, self._settings.webhook_timeout))

    async def _in_database(self, act: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._database, act, self._engine, *arguments)

    async def _record(self) -> None:
        if monotonic() < self._records_at or not (outcomes := self._in_flight.drain()):
            return
        try:
            stop_after = round(self._settings.webhook_stop_days * DAY)
            await self._in_database(claims.record, outcomes, Milliseconds(stop_after))
        except claims.AWAY as error:
            self._in_flight.restore(outcomes)
            if monotonic() > self._lease_ends:
                raise  # they may be claimed again now, so their receivers may get them twice
            self._records_at = monotonic() + RETRY_SECONDS
            log.warning("outcomes not recorded yet", count=len(outcomes), error=type(error).__name__)

    def _give_back(self) -> None:
        """Give back what waits for receivers that keep others waiting, and all that waits once the time is up."""
        late: list[ClaimedDelivery] = []
        if monotonic() > self._began + RUN_SECONDS + DRAIN_SECONDS:
            late = self._limits.take_back_all()
        elif not self._in_flight.has_room and monotonic() > self._had_room + STALL_SECONDS:
            late = self._limits.take_back_longest()
            self._had_room = monotonic()
        for delivery in late:
            self._in_flight.settle(delivery, BUSY)

    def _report(self) -> None:
        tally = {state.value: count for state, count in self._in_flight.tally.items()}
        if tally:
            log.info("deliveries settled", **tally, seconds=round(monotonic() - self._began, 3))
        for notice, count in self._in_flight.notices.items():
            log.warning("deliveries need attention", count=count, reason=notice)


async def send(channel: Channel, delivery: ClaimedDelivery) -> Sent:
    """Send one delivery; an exception that the channel did not expect counts as a failed try."""
    if delivery.outgoing is None:
        return GONE
    try:
        return await channel.send(delivery.outgoing)
    except Exception as error:
        # Only its type: its message could quote the answer.
        log.error(
            "delivery channel failed",
            request=delivery.claimed.request_id,
            channel=delivery.claimed.channel,
            error=type(error).__name__,
        )
        return Sent(Event.FAILED, type(error).__name__)
