"""Compares this machine's clock with those of Redis, of the database and of Anthropic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from time import time
from typing import NamedTuple

import redis
import sqlalchemy as sa

from carpool_worker.database import read
from carpool_worker.doctor.claude_api import ApiAnswer
from carpool_worker.doctor.findings import Finding, ok, warning, wrong
from carpool_worker.formatting import age
from carpool_worker.store.reports.doctor import seconds_since_epoch
from carpool_worker.units import SECOND

CHECK = "clock"
SMALL = 2.0
"""Seconds by which clocks may differ: intervals and locks allow for it."""

LARGE = 60.0
"""Seconds: receivers refuse webhooks whose signature is five minutes off (Standard Webhooks 1.0.0), and what one
machine has claimed looks abandoned to another."""

DATE_SECONDS = 0.5
"""An HTTP Date has whole seconds: the moment meant is half a second later, give or take half a second."""


class Skew(NamedTuple):
    """How many seconds a clock is ahead of this machine's, and how uncertain that is."""

    whose: str
    ahead: float
    uncertainty: float


def examine(server: redis.Redis | None, engine: sa.Engine | None, answer: ApiAnswer) -> Iterator[Finding]:
    """Compare this clock with those that can be reached."""
    if server:
        yield judge(_compared("Redis", lambda: _redis_time(server)))
    if engine and engine.dialect.name == "postgresql":
        with read(engine) as connection:
            yield judge(_compared("the database", lambda: seconds_since_epoch(connection)))
    if "date" in answer.headers:
        yield judge(_anthropic(answer))


def judge(skew: Skew) -> Finding:
    """Judge whether this machine's clock agrees with another."""
    direction = "behind" if skew.ahead > 0 else "ahead of"
    apart = max(0.0, abs(skew.ahead) - skew.uncertainty)
    what = f"this machine's is {age(apart * SECOND)} {direction} that of {skew.whose}"
    mend = "run a time service (NTP) on both machines"
    if apart > LARGE:
        return wrong(CHECK, what, mend)
    return warning(CHECK, what, mend) if apart > SMALL else ok(CHECK, f"agrees with that of {skew.whose}")


def _compared(whose: str, ask: Callable[[], float]) -> Skew:
    before = time()
    theirs = ask()
    after = time()
    return Skew(whose, theirs - (before + after) / 2, (after - before) / 2)


def _redis_time(server: redis.Redis) -> float:
    seconds, microseconds = server.time()
    return float(seconds) + float(microseconds) / 1e6


def _anthropic(answer: ApiAnswer) -> Skew:
    theirs = parsedate_to_datetime(answer.headers["date"]).timestamp() + DATE_SECONDS
    middle, half = (answer.asked_at + answer.answered_at) / 2, (answer.answered_at - answer.asked_at) / 2
    return Skew("Anthropic", theirs - middle, half + DATE_SECONDS)
