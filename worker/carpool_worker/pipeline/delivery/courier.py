"""The courier claims deliveries that are due and hands each to its channel, many at a time.

It claims whole segments of answers, by turns of receivers and clients, loads the answers of one shortly before they are
sent, and records what became of it in one go. Where clients share a receiver, what has been claimed and what has been
loaded goes by turns of theirs as well, by weight: however much was claimed for one, it delays no other. Delivery is at
least once: a courier killed between sending and recording leaves its claims. When their lease ends they become
available again, and receivers get the same `webhook-id` a second time.
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
from carpool_worker.pipeline.delivery.backlog import Backlog
from carpool_worker.pipeline.delivery.channels import Channels
from carpool_worker.pipeline.delivery.channels.celery_task import TaskChannel
from carpool_worker.pipeline.delivery.channels.webhook import WebhookChannel
from carpool_worker.pipeline.delivery.claims import Busy
from carpool_worker.pipeline.delivery.in_flight import InFlight
from carpool_worker.pipeline.delivery.sending import Sending
from carpool_worker.settings import Settings
from carpool_worker.states import DELIVER
from carpool_worker.store.deliveries.endpoints import Trouble
from carpool_worker.store.deliveries.outcomes import Claimed
from carpool_worker.store.deliveries.rows import FIRST
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import DAY, SECOND, Milliseconds

RUN_SECONDS = 20.0
"""How long a run claims deliveries; the next run takes over. Only while posts of this time hang, it goes on claiming
for others, for as long as a post may take: where there is but one courier, there is no next run until they are over."""

DRAIN_SECONDS = 1.0
"""How long it keeps sending what it has loaded after that; then it gives back what still waits. What becomes due
meanwhile waits for the next run."""

LEASE_MARGIN_SECONDS = 10.0
"""How long a claim outlasts a run's last post."""

RECORD_SECONDS = 0.03
"""Between records: outcomes are written in groups."""

CLAIM_SECONDS = 1.0
"""Between claims once nothing is due, but deliveries are still in flight or wait for a busy receiver; it ends sooner
if that receiver can do with more."""

RETRY_SECONDS = 1.0
"""Between tries to record outcomes while the database is away."""

STALL_SECONDS = 1.0
"""Without room for more answers, after which those to the slowest receivers are given back."""

LOOKUPS = 64
"""Host names looked up at a time, a thread each."""

log = get_logger(__name__)

T = TypeVar("T")


def deliver(engine: sa.Engine, app: celery.Celery, settings: Settings) -> int:
    """Deliver what is due, for about half a minute at most; return how many deliveries their receivers accepted.

    The `carpool.deliver` task calls it, whenever the stager or the collector finds deliveries that are due; any number
    of couriers may run at once. Rows are claimed in a transaction, and their answers sent outside any; outcomes are
    committed in groups, some 30 ms apart. A crash leaves what was claimed in `delivering`: when the lease ends it is
    delivered again, under the same `webhook-id`. Webhooks go out as `settings` allow, tasks through `app`.

    Raises:
        sqlalchemy.exc.OperationalError: the database is away, and nothing is in flight or the leases have ended.
    """
    return asyncio.run(_deliver(engine, app, settings))


async def _deliver(engine: sa.Engine, app: celery.Celery, settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(LOOKUPS, "courier-lookup"))
    async with WebhookChannel(settings, own_secrets=claims.own_secrets(engine)) as webhook:
        with TaskChannel(app, settings) as task:
            channels: Channels = {"webhook": webhook, "task": task}
            return await DeliveryRun(engine, channels, settings).run()


class DeliveryRun:
    """One run of the courier."""

    def __init__(self, engine: sa.Engine, channels: Channels, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._in_flight = InFlight(settings.webhook_schedule)
        self._backlog = Backlog(settings.client_weights)  # claimed, not loaded
        self._sending = Sending(channels, self._in_flight, self._backlog, settings)
        self._began = self._had_room = monotonic()
        self._ends = self._began + RUN_SECONDS
        longest = RUN_SECONDS + DRAIN_SECONDS + 2 * settings.webhook_timeout
        self._lease_ends = self._began + longest + LEASE_MARGIN_SECONDS
        self._claims_at = self._loads_at = self._records_at = 0.0
        self._turn = FIRST
        self._passed_over = Busy()  # was busy when nothing else was due
        # A thread of its own: the loop's others may all be looking up the names of hosts that don't answer.
        self._database = ThreadPoolExecutor(1, "courier-database")

    async def run(self) -> int:
        """Claim, send and record until nothing is due or the time is up; return how many were delivered."""
        with self._database:
            while await self._fetch() or not self._in_flight.is_empty:
                await asyncio.sleep(max(0.0, self._records_at - monotonic()))
                await self._record()
                self._give_back_late()
        self._report()
        return self._in_flight.tally[DELIVER.target]

    async def _fetch(self) -> bool:
        """Claim what is due and load what can soon be sent, until it is time to record; return whether it claimed."""
        claimed = False
        await self._load()
        while self._may_claim() and await self._claim():
            claimed = True
            await self._load()
            if monotonic() > self._records_at:
                break
        return claimed

    def _may_claim(self) -> bool:
        may_find = self._claims_at <= monotonic() or self._passed_over.is_freed_by(self._busy)
        return may_find and not self._is_over and self._backlog.has_room

    @property
    def _is_over(self) -> bool:
        """Whether nothing more is claimed."""
        late = monotonic() - self._ends
        return late > self._settings.webhook_timeout or (late > 0 and not self._sending.hangs)

    @property
    def _busy(self) -> Busy:
        """For which nothing is claimed now."""
        receivers, turns = self._backlog.busy(self._sending.quick())
        away = self._sending.slow if self._sending.is_ending else ()
        return Busy(receivers.union(self._sending.parked, away), turns)

    async def _claim(self) -> bool:
        lease = Milliseconds(round((self._lease_ends - monotonic()) * SECOND))
        busy, quick = self._busy, self._backlog.sharing(self._sending.quick())
        try:
            found = await self._in_database(claims.claim, self._turn, busy, lease, quick)
        except claims.AWAY:
            if self._in_flight.is_empty:
                raise
            found = claims.Claims([], FIRST, {})
        self._turn = found.last
        if not found.rows:
            self._claims_at, self._passed_over = monotonic() + CLAIM_SECONDS, busy
        for one in found.rows:
            self._accept(one, found.troubles.get(one.target) if one.channel == "webhook" else None)
        return bool(found.rows)

    def _accept(self, claimed: Claimed, trouble: Trouble | None) -> None:
        claim = self._in_flight.add(claimed, is_failing=trouble is not None)
        if trouble and trouble.stopped_at and trouble.reason:
            reason = self._sending.stop(claimed.target, trouble.reason)
            self._in_flight.refuse(claim, reason)
        elif claim.is_failing and self._sending.is_ending:
            self._sending.leave_to_the_next_run(claim)
        elif claim.left:
            self._backlog.add(claim)

    async def _load(self) -> None:
        """Load answers as long as there is room and a receiver that can do with more."""
        while self._has_room() and (taken := self._backlog.take(self._sending.appetite)):
            try:
                rows = [claim.claimed for claim in taken]
                loaded = await self._in_database(claims.load, rows, self._sending.room)
            except claims.AWAY:
                loaded = {}
                self._loads_at = monotonic() + RETRY_SECONDS
            for claim in reversed(taken):
                if claim.claimed[:2] not in loaded:
                    self._backlog.put_back(claim)
            for claim in taken:
                if (contents := loaded.get(claim.claimed[:2])) is not None:
                    self._sending.add(claim, contents)

    async def _in_database(self, act: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._database, act, self._engine, *arguments)

    async def _record(self) -> None:
        if monotonic() < self._records_at:
            return
        self._records_at = monotonic() + RECORD_SECONDS
        if (findings := self._in_flight.drain()) is None:
            return
        try:
            stop_after = round(self._settings.webhook_stop_days * DAY)
            await self._in_database(claims.record, findings, Milliseconds(stop_after))
        except claims.AWAY as error:
            self._in_flight.restore(findings)
            if monotonic() > self._lease_ends:
                raise  # they may be claimed again now, so their receivers may get them twice
            self._records_at = monotonic() + RETRY_SECONDS
            log.warning("outcomes not recorded yet", count=len(findings.outcomes), error=type(error).__name__)

    def _has_room(self) -> bool:
        if not self._sending.has_room:
            return False
        self._had_room = monotonic()
        return self._had_room >= self._loads_at

    def _give_back_late(self) -> None:
        """Give back what waits for receivers that keep others waiting, and all that waits once the time is up."""
        if monotonic() > self._ends and not self._sending.is_ending:
            self._sending.end()
        if self._is_over:
            self._sending.give_back_claimed()
        if monotonic() > self._ends + DRAIN_SECONDS and self._is_over:
            self._sending.give_back_all()
        elif not self._has_room() and monotonic() > self._had_room + STALL_SECONDS:
            self._sending.defer_slowest()
            self._had_room = monotonic()

    def _report(self) -> None:
        tally = {state.value: count for state, count in self._in_flight.tally.items()}
        if tally:
            log.info("deliveries settled", **tally, seconds=round(monotonic() - self._began, 3))
        for notice, count in self._in_flight.notices.items():
            log.warning("deliveries need attention", count=count, reason=notice)
