"""Waiting for answers: which are outstanding, and when to ask the worker again.

It does no input or output, so Producer and AsyncProducer share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import uuid_utils

from carpool.contract import REPLIES, REQUEST_ID, WAITS, WAITS_TTL, Wait, encode_wait
from carpool.exceptions import InvalidRequest, WaitTimeout
from carpool.options import BLOCK_SECONDS, Options
from carpool.packer import Command
from carpool.results import Result

WAIT_IDS = 1_000
"""Ids in one Wait message."""

MAX_OUTSTANDING = 10_000
"""Ids asked for at a time; it bounds the memory that unread answers take in Redis."""

REPEAT_AFTER = (15.0, 30.0, 60.0)
"""Seconds until a Wait is repeated, the last number for all later repeats: so none is lost for good."""

READ_ANSWERS = 200
"""Answers in one read."""


class _Group(msgspec.Struct):
    ids: list[str]
    due: float
    repeats: int = 0


class ReplyWaiter:
    """One wait for the answers of `ids`, once for each distinct id. Times are seconds of a monotonic clock."""

    def __init__(self, options: Options, ids: Iterable[str], timeout: float | None, now: float) -> None:
        self.reply_to = REPLIES + uuid_utils.uuid7().hex
        self._options = options
        self._ahead = list(dict.fromkeys(map(checked_id, ids)))
        self._ahead.reverse()
        self._outstanding: set[str] = set()
        self._groups: list[_Group] = []
        self._timeout = timeout
        self._started = now

    @property
    def done(self) -> bool:
        """Whether every answer has come."""
        return not self._outstanding and not self._ahead

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

    def read_command(self, now: float) -> Command:
        """Return the blocking Redis command (BLMPOP, Redis 7) for the next answers.

        Raises WaitTimeout when the time is up.
        """
        next_repeat = min((group.due for group in self._groups), default=now) - now
        seconds = max(0.001, min(self._remaining(now), next_repeat, BLOCK_SECONDS))
        return ("BLMPOP", seconds, 1, self.reply_to, "LEFT", "COUNT", READ_ANSWERS)

    def confirm(self, replies: Sequence[object]) -> None:
        """Check the replies to the first `commands`; raises RedisUnavailable if Redis refused."""
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._options.unavailable(reply)

    def take(self, replies: Sequence[object]) -> list[Result]:
        """Return the new results in the reply to `read_command`; raises RedisUnavailable if Redis refused."""
        self.confirm(replies)
        reply = replies[0]
        if not isinstance(reply, list | tuple):
            return []
        results = [Result.from_json(answer) for answer in reply[1]]
        return [result for result in results if self._settle(result.id)]

    def repeat_all(self, now: float) -> None:
        """Ask for everything again with the next `commands`: the connection broke."""
        for group in self._groups:
            group.due = now

    def _remaining(self, now: float) -> float:
        if self._timeout is None:
            return float("inf")
        remaining = self._started + self._timeout - now
        if remaining <= 0:
            raise WaitTimeout([*self._outstanding, *self._ahead], self._timeout)
        return remaining

    def _settle(self, request_id: str) -> bool:
        was_outstanding = request_id in self._outstanding
        self._outstanding.discard(request_id)
        return was_outstanding

    def _top_up(self, now: float) -> None:
        self._groups = [group for group in self._groups if not self._outstanding.isdisjoint(group.ids)]
        while self._ahead and len(self._outstanding) + WAIT_IDS <= MAX_OUTSTANDING:
            ids = [self._ahead.pop() for _ in range(min(WAIT_IDS, len(self._ahead)))]
            self._outstanding.update(ids)
            self._groups.append(_Group(ids, now))

    def _wait(self, group: _Group, now: float) -> bytes:
        group.ids = [one for one in group.ids if one in self._outstanding]
        group.due = now + REPEAT_AFTER[min(group.repeats, len(REPEAT_AFTER) - 1)]
        group.repeats += 1
        return encode_wait(Wait(self._options.client, self.reply_to, group.ids))


def checked_id(request_id: object) -> str:
    """Return a request's id as it is; raises InvalidRequest if it is malformed."""
    if not isinstance(request_id, str) or not REQUEST_ID.fullmatch(request_id):
        raise InvalidRequest("request_id", "must be 32 hexadecimal digits, as enqueue returned them")
    return request_id
