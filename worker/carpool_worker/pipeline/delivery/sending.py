"""Sends loaded answers through their channels, as many at a time as receivers may get."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from time import monotonic

from carpool_worker import database
from carpool_worker.pipeline.delivery.backlog import LOADED_DELIVERIES, Backlog
from carpool_worker.pipeline.delivery.channels import Channel, Channels
from carpool_worker.pipeline.delivery.concurrency import ReceiverLimits, ReceiverSpeed
from carpool_worker.pipeline.delivery.in_flight import InFlight, OpenClaim
from carpool_worker.pipeline.delivery.letters import Letter, letter_queue, outgoing
from carpool_worker.policies.deliveries import GONE as GONE_STATUS
from carpool_worker.policies.deliveries import Event, Sent
from carpool_worker.settings import Settings
from carpool_worker.store.deliveries.endpoints import ANSWERED_GONE
from carpool_worker.store.deliveries.receivers import SLOW
from carpool_worker.store.requests.sendable import Sendable
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import Milliseconds, after

SLOW_SECONDS = 5.0
"""A receiver that takes this long is slow: it gets one delivery at a time."""

PARK_SECONDS = 30.0
"""How long a slow receiver is left alone by all couriers: one that hangs isn't tried all the time, and one that was
slow once is soon tried again."""

FULL_SECONDS = 10.0
"""How long a receiver without room for more is left alone."""

MOST_LETTERS = 10_000
MOST_BYTES = 32_000_000
"""Answers that are loaded and wait, and their bytes (which one segment may exceed)."""

CLOGGED = "not sent yet: {} is slow"
"""Said of a host and port, whichever of its paths was slow, or of a queue."""

BUSY = CLOGGED + ", and others came first"
STOPPED = "not sent: its endpoint was stopped, it {}"
GONE = Sent(Event.REFUSED, "not sent: the request is no longer kept")

log = get_logger(__name__)


class Sending:
    """The answers of a run that are loaded and wait, or are being sent."""

    def __init__(self, channels: Channels, in_flight: InFlight, backlog: Backlog, settings: Settings) -> None:
        self._channels = channels
        self._in_flight = in_flight
        self._backlog = backlog
        self._limits = ReceiverLimits[Letter](
            settings.webhook_concurrency,
            settings.webhook_host_concurrency,
            self._start,
            partial(letter_queue, settings.client_weights),
        )
        self.quick = self._limits.quick  # returns the receivers that were quick at their last try
        self._quick = min(SLOW_SECONDS, settings.webhook_timeout)
        self._ready: deque[tuple[str, Letter]] = deque()  # may be sent now
        self._loaded = self._bytes = 0
        self._stopped: dict[str, str] = {}  # URLs to which nothing more is sent, and why
        self._tasks: set[asyncio.Task[None]] = set()
        self._parked: dict[str, tuple[Milliseconds, str]] = {}  # receivers, until when, and why
        self.is_ending = False  # only posts that hang keep the run from its end
        self._posts = self._hanging = 0  # in flight, and those of them that began before that
        self.slow: set[str] = set()  # receivers that are left to the next run then

    @property
    def parked(self) -> list[str]:
        """The receivers that are left alone now."""
        return [receiver for receiver, (until, _) in self._parked.items() if until > database.now()]

    @property
    def hangs(self) -> bool:
        """Whether posts are in flight that began before the run was ending."""
        return self._hanging > 0 or not self.is_ending

    def end(self) -> None:
        """Begin nothing more that is known to hang, so that the run can end, and give it back."""
        self.is_ending = True
        self._hanging = self._posts
        for receiver in self._limits.slow():
            self._leave(receiver)

    def leave_to_the_next_run(self, claim: OpenClaim) -> None:
        """Give a row back whose receiver fails: it may hang."""
        self.slow.add(claim.claimed.receiver)
        self._in_flight.give_back(claim, claim.left, None)

    def _leave(self, receiver: str) -> None:
        self.slow.add(receiver)
        for claim in self._backlog.drop(receiver):
            self._in_flight.give_back(claim, claim.left, None)
        self._take_back(self._limits.take_back(receiver, all_but=0), None)

    @property
    def has_room(self) -> bool:
        """Whether more may be loaded."""
        return self._loaded < MOST_LETTERS and self._bytes < MOST_BYTES

    @property
    def room(self) -> int:
        """Bytes that may be loaded."""
        return MOST_BYTES - self._bytes

    def appetite(self, receiver: str) -> int:
        """Return how many deliveries to load for a receiver: few until it has answered the first."""
        waiting = self._limits.waiting(receiver)
        return LOADED_DELIVERIES - waiting if self._limits.is_quick(receiver) else int(not waiting)

    def add(self, claim: OpenClaim, contents: Sequence[Sendable]) -> None:
        """Queue the answers of a row; some may be sent at once."""
        if not contents:
            self._in_flight.refuse(claim, str(GONE.detail))
        for content in contents:
            if content.is_gone:
                self._in_flight.settle(claim, content.request_id, content.position, GONE)
                continue
            self._loaded += 1
            self._bytes += len(content.body)
            self._limits.add(claim.claimed.receiver, Letter(claim, content), claim.is_failing)
        self._spawn()

    def stop(self, url: str, reason: str) -> str:
        """Send nothing more to a stopped URL; return why, as its deliveries say it."""
        self._stopped[url] = self._in_flight.findings.stopped[url] = STOPPED.format(reason)
        return self._stopped[url]

    def give_back_claimed(self) -> None:
        """Give back what is not loaded: the next run takes it, and what came due since, by turns."""
        for claim in self._backlog.drop_all():
            self._in_flight.give_back(claim, claim.left, None)

    def give_back_all(self) -> None:
        """Give back all that waits: there is no time left for it."""
        self.give_back_claimed()
        self._take_back(self._limits.take_back_all(), None)

    def defer_slowest(self) -> None:
        """Put off what waits for the slowest receivers, which keep others waiting."""
        for letter in self._limits.take_back_longest():
            busy = Sent(Event.DEFERRED, BUSY.format(letter.claim.claimed.receiver))
            self._in_flight.settle(letter.claim, letter.content.request_id, letter.content.position, busy)
            self._unload(letter)

    def _start(self, receiver: str, letter: Letter) -> None:
        self._ready.append((receiver, letter))

    def _spawn(self) -> None:
        """Start a task for each delivery that may be sent; it goes on with those that become ready by it."""
        while self._ready:
            task = asyncio.create_task(self._send_on(*self._ready.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send_on(self, receiver: str, letter: Letter) -> None:
        await self._send(receiver, letter)
        while self._ready:
            receiver, letter = self._ready.popleft()
            self._spawn()
            await self._send(receiver, letter)

    async def _send(self, receiver: str, letter: Letter) -> None:
        claim, content = letter
        start, began_before = monotonic(), not self.is_ending
        self._posts += 1
        if reason := self._stopped.get(claim.claimed.target):
            sent = Sent(Event.REFUSED, reason)
        else:
            sent = await send(self._channels[claim.claimed.channel], letter)
        seconds = monotonic() - start
        self._posts -= 1
        self._hanging -= began_before and self.is_ending
        if sent.event is Event.FULL:
            self._stop_filling(receiver, letter, str(sent.detail))
            return
        self._in_flight.settle(claim, content.request_id, content.position, sent, seconds)
        self._unload(letter)
        if sent.status == GONE_STATUS:
            self.stop(claim.claimed.target, ANSWERED_GONE)
        is_slow = seconds >= self._quick
        if is_slow and self.is_ending:
            self._leave(receiver)
        self._limits.finish(receiver, ReceiverSpeed.SLOW if is_slow else ReceiverSpeed.QUICK)
        if is_slow:
            clogged = CLOGGED.format(receiver)
            self._park(receiver, PARK_SECONDS, SLOW, clogged)
            self._take_back(self._limits.take_back(receiver), clogged)
        elif self._parked.get(receiver, (0, ""))[1] == SLOW:
            self._unpark(receiver)

    def _stop_filling(self, receiver: str, letter: Letter, reason: str) -> None:
        self._park(receiver, FULL_SECONDS, reason, reason)
        self._take_back([letter, *self._limits.take_back(receiver, all_but=0)], reason)
        self._in_flight.notices[reason] += 1
        self._limits.finish(receiver, ReceiverSpeed.UNKNOWN)

    def _park(self, receiver: str, seconds: float, reason: str, error: str) -> None:
        """Leave a receiver alone: what is claimed for it is given back, and other couriers don't claim it either."""
        parked = self._parked[receiver] = after(database.now(), seconds), reason
        self._in_flight.findings.parked[receiver] = parked
        for claim in self._backlog.drop(receiver):
            self._in_flight.give_back(claim, claim.left, error)

    def _unpark(self, receiver: str) -> None:
        del self._parked[receiver]
        self._in_flight.findings.parked.pop(receiver, None)
        self._in_flight.findings.unparked.add(receiver)

    def _take_back(self, letters: Iterable[Letter], reason: str | None) -> None:
        for letter in letters:
            self._in_flight.give_back(letter.claim, 1, reason)
            self._unload(letter)

    def _unload(self, letter: Letter) -> None:
        self._loaded -= 1
        self._bytes -= len(letter.content.body)


async def send(channel: Channel, letter: Letter) -> Sent:
    """Send one delivery; an exception that the channel did not expect counts as a failed try."""
    claimed = letter.claim.claimed
    try:
        content = outgoing(letter.content, claimed)
        return GONE if content is None else await channel.send(content)
    except Exception as error:
        log.error(
            "delivery channel failed",
            request=letter.content.request_id,
            channel=claimed.channel,
            error=type(error).__name__,  # its message could quote the answer
        )
        return Sent(Event.FAILED, type(error).__name__)
