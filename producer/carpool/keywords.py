"""Checks the keywords of an enqueue that stand for themselves, each on its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from time import time
from typing import NamedTuple

from carpool import tracing
from carpool.contract import MAX_PRIORITY, MAX_WAIT
from carpool.exceptions import InvalidRequest

MAX_KEY_LENGTH = 256
MAX_TAGS = 10
MAX_TAG_LENGTH = 64

DEADLINE_POLICIES = ("call", "batch", "pay_again")
"""What a deadline may cost; the first is the default. `EnqueueOptions` explains them."""


class CheckedDeadline(NamedTuple):
    """By when an answer should be there."""

    milliseconds: int  # since the epoch, or from the enqueue
    is_relative: bool

    def at(self, enqueued_at: int) -> int:
        """Return it in milliseconds since the epoch, for a request that is enqueued at that time."""
        return enqueued_at + self.milliseconds if self.is_relative else self.milliseconds


def checked_tags(tags: object) -> tuple[str, ...]:
    """Return the tags of a request, each once; raises InvalidRequest."""
    if isinstance(tags, str) or not isinstance(tags, Sequence) or len(tags) > MAX_TAGS:
        raise InvalidRequest("tags", f"must be a list of at most {MAX_TAGS} strings")
    for at, tag in enumerate(tags):
        if not isinstance(tag, str) or not 0 < len(tag) <= MAX_TAG_LENGTH or not _is_one_word(tag):
            rule = f"must be 1 to {MAX_TAG_LENGTH} printable characters without spaces"
            raise InvalidRequest(f"tags[{at}]", rule)
    return tuple(dict.fromkeys(tags))


def checked_key(key: object) -> str:
    """Return an idempotency key; raises InvalidRequest."""
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_LENGTH or not key.isprintable():
        raise InvalidRequest("idempotency_key", f"must be 1 to {MAX_KEY_LENGTH} printable characters")
    return key


def checked_trace(trace: object) -> str:
    """Return a traceparent; raises InvalidRequest."""
    if not isinstance(trace, str) or not tracing.TRACEPARENT.fullmatch(trace):
        raise InvalidRequest("trace", "must be a W3C traceparent, 00-…")
    return trace


def checked_priority(priority: object) -> int:
    """Return a priority; raises InvalidRequest."""
    if type(priority) is not int or abs(priority) > MAX_PRIORITY:
        raise InvalidRequest("priority", f"must be an integer from -{MAX_PRIORITY} to {MAX_PRIORITY}")
    return priority


def checked_wait(seconds: object) -> int:
    """Return `max_wait` in milliseconds; raises InvalidRequest."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_WAIT:
        raise InvalidRequest("max_wait", f"must be seconds, more than 0 and {MAX_WAIT:,} (30 days) at most")
    return int(seconds * 1_000)


def checked_deadline(deadline: object) -> CheckedDeadline:
    """Return a deadline; raises InvalidRequest.

    It is a number of seconds from the enqueue, or a time: a datetime, or its text as RFC 3339 has it.
    """
    if isinstance(deadline, int | float) and not isinstance(deadline, bool):
        if not 0 < deadline <= MAX_WAIT:
            raise InvalidRequest(
                "deadline", f"must be more than 0 and {MAX_WAIT:,} seconds (30 days) at most"
            )
        return CheckedDeadline(max(1, int(deadline * 1_000)), is_relative=True)
    moment = _moment(deadline)
    if not 0 < moment - time() <= MAX_WAIT:
        raise InvalidRequest("deadline", "must be in the future, and 30 days from now at most")
    return CheckedDeadline(int(moment * 1_000), is_relative=False)


def checked_deadline_policy(policy: object) -> str | None:
    """Return what a deadline may cost, None for the default; raises InvalidRequest."""
    if policy not in DEADLINE_POLICIES:
        raise InvalidRequest("deadline_policy", f"must be one of {', '.join(DEADLINE_POLICIES)}")
    return None if policy == DEADLINE_POLICIES[0] else str(policy)


def _moment(deadline: object) -> float:
    try:
        moment = datetime.fromisoformat(deadline) if isinstance(deadline, str) else deadline
        if isinstance(moment, datetime) and moment.tzinfo is not None:
            return moment.timestamp()
    except (ValueError, OverflowError):
        pass
    rule = "must be seconds from now, or a time with its time zone, as 2026-12-01T09:00:00Z"
    raise InvalidRequest("deadline", rule)


def _is_one_word(text: str) -> bool:
    return text.isprintable() and " " not in text
