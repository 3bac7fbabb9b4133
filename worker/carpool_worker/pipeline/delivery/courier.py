"""The courier: claims deliveries that are due and hands each to its channel, many at once.

At least once, not exactly once: a courier killed between sending and recording leaves its deliveries claimed; when
their lease ends the rescuer makes them available again, and receivers see the same `webhook-id` a second time.
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
from carpool_worker.pipeline.delivery.claims import Parcel
from carpool_worker.pipeline.delivery.concurrency import Turns
from carpool_worker.pipeline.delivery.in_flight import CHUNK, Window
from carpool_worker.policies.deliveries import Event, Sent
from carpool_worker.settings import Settings
from carpool_worker.states import DELIVER
from carpool_worker.telemetry.logs import get_logger

RUN = 20.0
DRAIN = 5.0
"""Seconds. A run claims for so long, and so much later puts back what still waits for its turn."""

LEASE_MARGIN = 10.0
"""Seconds that a lease goes on after a run's last post must have ended."""

PAUSE = 0.03
"""Seconds between two looks at what has finished: outcomes are recorded in groups."""

LULL = 1.0
"""Seconds until a run that found no more due asks again, while its last deliveries are out."""

SLOW = 5.0
"""Seconds from which on a receiver is slow: it gets one delivery at a time."""

DAY = 86_400.0

LOOKUPS = 64
"""Names of hosts that are looked up at once, a thread each."""

STALL = 1.0
"""Seconds without room for a chunk; then the receiver that most deliveries wait for gives way."""

BUSY = Sent(Event.HELD, "not sent yet: its receiver is slow, and others came first")
CLOGGED = Sent(Event.HELD, "not sent yet: its receiver is slow, and enough wait for it", retry_after=30.0)
"""Seconds: one that hangs is not asked all the time, and one that was slow once is soon trusted again."""

GONE = Sent(Event.REFUSED, "not sent: the request is no longer kept")

log = get_logger(__name__)

T = TypeVar("T")


def deliver(engine: sa.Engine, app: celery.Celery, settings: Settings) -> int:
    """Deliver what is due, for about a minute at most; return how many deliveries their callbacks took.

    Webhooks go out by `settings`, tasks through `app`.
    """
    return asyncio.run(_deliver(engine, app, settings))


async def _deliver(engine: sa.Engine, app: celery.Celery, settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(LOOKUPS, "courier-lookup"))
    async with WebhookChannel(settings) as webhook:
        with TaskChannel(app, settings) as task:
            channels: Channels = {"webhook": webhook, "task": task}
            return await Run(engine, channels, settings).run()


class Run:
    """One run of the courier."""

    def __init__(self, engine: sa.Engine, channels: Channels, settings: Settings) -> None:
        self._engine = engine
        self._channels = channels
        self._settings = settings
        self._window = Window(settings.webhook_schedule)
        limits = (settings.webhook_concurrency, settings.webhook_host_concurrency)
        self._turns = Turns[Parcel](*limits, self._start)
        self._began = self._had_room = monotonic()
        self._lease_ends = self._began + RUN + DRAIN + settings.webhook_timeout + LEASE_MARGIN
        self._asks_at = self._records_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        # A thread of its own: the loop's others may all be looking up the names of hosts that don't answer.
        self._database = ThreadPoolExecutor(1, "courier-database")

    async def run(self) -> int:
        """Claim, send and record until nothing is due or the time is up; return how many were delivered."""
        with self._database:
            return await self._run()

    async def _run(self) -> int:
        while await self._fill() or not self._window.is_empty:
            await asyncio.sleep(PAUSE)
            await self._record()
            self._give_way()
        self._report()
        return self._window.tally[DELIVER.target]

    async def _fill(self) -> bool:
        """Claim while there is room and anything due; tell whether anything was claimed."""
        filled = False
        while self._may_claim():
            chunk = await self._claim()
            if len(chunk) < CHUNK:
                self._asks_at = monotonic() + LULL
            for parcel in chunk:
                self._take(parcel)
            filled = filled or bool(chunk)
        return filled

    async def _claim(self) -> list[Parcel]:
        try:
            return await self._in_database(claims.claim, CHUNK, self._lease_ends - monotonic())
        except claims.AWAY:
            if self._window.is_empty:
                raise
            return []

    def _may_claim(self) -> bool:
        if not self._window.has_room:
            return False
        self._had_room = monotonic()
        return self._asks_at <= self._had_room < self._began + RUN

    def _take(self, parcel: Parcel) -> None:
        self._window.take(parcel)
        lane = self._channels[parcel.claimed.channel].lane(parcel.claimed.target)
        if parcel.outgoing is None:
            self._window.settle(parcel, GONE)
        elif parcel.stopped:
            self._window.settle(
                parcel, Sent(Event.REFUSED, f"not sent: its endpoint was stopped, it {parcel.stopped}")
            )
        elif self._turns.is_clogged(lane):
            self._window.settle(parcel, CLOGGED)
        else:
            self._turns.add(lane, parcel, parcel.fails)

    def _start(self, lane: str, parcel: Parcel) -> None:
        task = asyncio.create_task(self._send(lane, parcel))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, lane: str, parcel: Parcel) -> None:
        start = monotonic()
        sent = await send(self._channels[parcel.claimed.channel], parcel)
        seconds = monotonic() - start
        self._window.settle(parcel, sent, seconds)
        self._turns.finish(lane, quick=seconds < min(SLOW, self._settings.webhook_timeout))

    async def _in_database(self, act: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._database, act, self._engine, *arguments)

    async def _record(self) -> None:
        if monotonic() < self._records_at or not (outcomes := self._window.drain()):
            return
        try:
            await self._in_database(claims.record, outcomes, self._settings.webhook_stop_days * DAY)
        except claims.AWAY as error:
            self._window.put_back(outcomes)
            if monotonic() > self._lease_ends:
                raise  # others may claim them now; receivers that had them will see them twice
            self._records_at = monotonic() + LULL
            log.warning("outcomes not recorded yet", count=len(outcomes), error=type(error).__name__)

    def _give_way(self) -> None:
        """Put back what waits for a receiver that holds up the others, and all that waits when the time is up."""
        late: list[Parcel] = []
        if monotonic() > self._began + RUN + DRAIN:
            late = self._turns.take_back_all()
        elif not self._window.has_room and monotonic() > self._had_room + STALL:
            late = self._turns.take_back_longest()
            self._had_room = monotonic()
        for parcel in late:
            self._window.settle(parcel, BUSY)

    def _report(self) -> None:
        tally = {state.value: count for state, count in self._window.tally.items()}
        if tally:
            log.info("deliveries settled", **tally, seconds=round(monotonic() - self._began, 3))
        for notice, count in self._window.notices.items():
            log.warning("deliveries need attention", count=count, reason=notice)


async def send(channel: Channel, parcel: Parcel) -> Sent:
    """Send one parcel; an error that the channel did not foresee counts as a failed try."""
    if parcel.outgoing is None:
        return GONE
    try:
        return await channel.send(parcel.outgoing)
    except Exception as error:
        # Its type alone: what the error says could quote the answer.
        log.error(
            "delivery channel failed",
            request=parcel.claimed.request_id,
            channel=parcel.claimed.channel,
            error=type(error).__name__,
        )
        return Sent(Event.FAILED, type(error).__name__)
