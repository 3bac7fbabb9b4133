"""Waiting for answers: which are outstanding, and when to ask the worker again.

It does no input or output, so Producer and AsyncProducer share it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
import uuid_utils

from carpool.answers import PackedAnswer, unpack_answers
from carpool.contract import REPLIES, WAITS, WAITS_TTL, Wait, encode_wait
from carpool.exceptions import RequestForgotten, RequestUnknown, WaitTimeout
from carpool.not_there import NOT_THERE, NotThere, decode_not_there
from carpool.options import BLOCK_SECONDS, Options
from carpool.outstanding import Outstanding
from carpool.packer import Command
from carpool.results import Result
from carpool.segments import SEGMENT_REQUESTS

WAIT_IDS = 1_000
"""Ids in one Wait message."""

MAX_OUTSTANDING = 10_000
"""Ids asked for at a time; it bounds the memory that unread answers take in Redis."""

REPEAT_AFTER = (15.0, 30.0, 60.0)
"""Seconds until a Wait is repeated, the last number for all later repeats: so none is lost for good."""

GRACE = 5.0
"""Seconds in which answers that are pushed by themselves are not asked for."""

READ_ANSWERS = 200
READ_PACKED = 16
"""Items in one read. Up to 200 packed answers are one; a short wait reads one item, and leaves the rest to others."""

PING: Final[Command] = ("PING",)
"""Sent first where there is nothing to ask for yet, to see whether Redis is there."""

WAKE_UP = b""
"""An item that says nothing but that there is something to read."""

WAKE_UP_TTL = 60
"""Seconds that it is kept if its wait is over already."""


class _Group(msgspec.Struct):
    span: range  # of the ids that a Wait asked for
    due: float
    repeats: int = 0


class ReplyWaiter:
    """One wait for the answers of `ids`, once for each distinct id. Times are seconds of a monotonic clock."""

    def __init__(self, options: Options, ids: Iterable[str], timeout: float | None, now: float) -> None:
        self.reply_to = REPLIES + uuid_utils.uuid7().hex
        self._options = options
        self._pushed = options.pushed
        self._outstanding = Outstanding(ids)
        self._asked = 0
        """Of the ids in their order, how many have been asked for, or had an answer before."""
        self._unanswered = 0
        """How many ids were asked for, less the answers that the Waits brought."""
        self._groups: list[_Group] = []
        self._last_asked = self._ask_from = now
        if self._pushed.is_used and self._pushed.is_complete:
            self._ask_from += GRACE
        self._results: deque[Result | PackedAnswer] = deque()
        self._handed: deque[PackedAnswer] = deque()
        self._to_wake: set[str] = set()
        self._not_there: dict[type[RequestUnknown], list[str]] = {RequestUnknown: [], RequestForgotten: []}
        self._timeout = timeout
        self._started = now

    @property
    def done(self) -> bool:
        """Whether every answer has come and was returned."""
        return not (self._outstanding or self._results)

    def join(self) -> None:
        """Begin: take what came before. `leave` ends it."""
        self._pushed.join(self)

    def leave(self) -> None:
        """End: what came and was not returned is kept for other waits."""
        unread = [one for one in (*self._results, *self._handed) if isinstance(one, PackedAnswer)]
        self._pushed.leave(self, unread)

    def commands(self, now: float) -> list[Command]:
        """Return the Redis commands, one pipeline, that ask the worker for the answers due to be asked for now.

        Raises WaitTimeout when the time is up.
        """
        self._remaining(now)
        self._top_up(now)
        waits = [self._wait(group, now) for group in self._groups if group.due <= now]
        if not waits:
            return []
        return [("RPUSH", WAITS, *waits), ("EXPIRE", WAITS, WAITS_TTL)]

    def last_commands(self) -> list[Command]:
        """Return the Redis commands, one pipeline, that free what the wait takes there; called once it is over."""
        waits = [
            encode_wait(Wait(self._options.client, self.reply_to, list(ids), is_over=True))
            for group in self._groups
            if (ids := tuple(self._outstanding.ids(group.span)))
        ]
        asked: list[Command] = [("RPUSH", WAITS, *waits), ("EXPIRE", WAITS, WAITS_TTL)] if waits else []
        return [("DEL", self.reply_to), *asked]

    def read_command(self, now: float) -> Command:
        """Return the blocking Redis command (BLMPOP, Redis 7) for the next answers.

        Raises WaitTimeout when the time is up.
        """
        times = [group.due for group in self._groups]
        if now < self._ask_from:
            times.append(self._ask_from)
        seconds = max(0.001, min(self._remaining(now), min(times, default=now) - now, BLOCK_SECONDS))
        if not self._pushed.is_used:
            return ("BLMPOP", seconds, 1, self.reply_to, "LEFT", "COUNT", READ_ANSWERS)
        count = 1 if len(self._outstanding) <= SEGMENT_REQUESTS else READ_PACKED
        return ("BLMPOP", seconds, 2, self.reply_to, self._pushed.name, "LEFT", "COUNT", count)

    def confirm(self, replies: Sequence[object]) -> None:
        """Check the replies to the first `commands`; raises RedisUnavailable if Redis refused."""
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._options.unavailable(reply)

    def receive(self, replies: Sequence[object]) -> list[Command]:
        """Take in the reply to `read_command`; return the commands that wake up other waits, if there are any.

        Raises RedisUnavailable if Redis refused, and InvalidAnswer for what is no answer.
        """
        self.confirm(replies)
        reply = replies[0]
        for item in reply[1] if isinstance(reply, list | tuple) else ():
            if item.startswith(b"{"):
                self._receive_asked_for(Result.from_json(item))
            elif item.startswith(NOT_THERE):
                self._receive_not_there(decode_not_there(item[len(NOT_THERE) :]))
            elif item != WAKE_UP:
                self._receive_pushed(unpack_answers(item))
        wake, self._to_wake = self._to_wake, set()
        pushes: list[Command] = [("RPUSH", name, WAKE_UP) for name in wake]
        return [*pushes, *(("EXPIRE", name, WAKE_UP_TTL) for name in wake)]

    def results(self) -> Iterator[Result]:
        """Yield the new results that have come.

        Raises RequestUnknown once there is nothing else to wait for than requests that are not there.
        """
        self._take_handed()
        while self._results:
            one = self._results.popleft()
            yield one if isinstance(one, Result) else Result(one)
        if not self._outstanding:
            for kind, ids in self._not_there.items():
                if ids:
                    raise kind(ids, self._options.client)

    def wanted(self, at_most: int) -> list[bytes] | None:
        """Return the ids that there is no answer for yet; None if they are more."""
        return list(self._outstanding) if len(self._outstanding) <= at_most else None

    def wants(self, id_: bytes) -> bool:
        """Return whether there is no answer yet for this request."""
        return id_ in self._outstanding

    def hand(self, answer: PackedAnswer) -> None:
        """Take in an answer that another wait has read; `results` yields it."""
        self._handed.append(answer)

    def repeat_all(self, now: float) -> None:
        """Ask for everything again with the next `commands`: the connection broke."""
        self._ask_from = now
        self._unanswered = sum(self._outstanding.count(group.span) for group in self._groups)
        for group in self._groups:
            group.due = now

    def _remaining(self, now: float) -> float:
        if self._timeout is None:
            return float("inf")
        remaining = self._started + self._timeout - now
        if remaining <= 0:
            raise WaitTimeout(self._outstanding.ids(), self._timeout)
        return remaining

    def _receive_asked_for(self, result: Result) -> None:
        fresh, _ = self._outstanding.settle(bytes.fromhex(result.id))
        if fresh:
            self._unanswered -= 1
            self._results.append(result)

    def _receive_not_there(self, found: NotThere) -> None:
        for kind, ids in ((RequestUnknown, found.unknown), (RequestForgotten, found.forgotten)):
            for id_ in ids:
                fresh, _ = self._outstanding.settle(bytes.fromhex(id_))
                if fresh:
                    self._unanswered -= 1
                    self._not_there[kind].append(id_)

    def _receive_pushed(self, answers: Sequence[PackedAnswer]) -> None:
        fresh, unknown = self._outstanding.settle(answers[0].packed.ids)
        self._results.extend([answers[at] for at in fresh])
        self._to_wake |= self._pushed.hand_over(answers, set(unknown))

    def _take_handed(self) -> None:
        while self._handed:
            answer = self._handed.popleft()
            fresh, _ = self._outstanding.settle(answer.key)
            if fresh:
                self._results.append(answer)

    def _top_up(self, now: float) -> None:
        self._groups = [group for group in self._groups if self._outstanding.count(group.span)]
        if now < self._ask_from:
            return
        # Pushed answers don't make room for more questions: otherwise all of a long wait would be asked for.
        if not self._groups and now >= self._last_asked + REPEAT_AFTER[0]:
            self._unanswered = 0
        while self._unanswered + WAIT_IDS <= MAX_OUTSTANDING:
            span = self._outstanding.next_span(self._asked, WAIT_IDS)
            if not span:
                break
            self._asked = span.stop
            self._unanswered += self._outstanding.count(span)
            self._groups.append(_Group(span, now))

    def _wait(self, group: _Group, now: float) -> bytes:
        group.due = now + REPEAT_AFTER[min(group.repeats, len(REPEAT_AFTER) - 1)]
        group.repeats += 1
        self._last_asked = now
        ids = list(self._outstanding.ids(group.span))
        age = round((now - self._started) * 1_000)
        return encode_wait(Wait(self._options.client, self.reply_to, ids, age=age))
