"""The courier's transactions: it claims rows of deliveries, loads what is to be sent, and records the outcomes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg
import sqlalchemy as sa

from carpool_worker import database
from carpool_worker.store import webhook_secrets
from carpool_worker.store.deliveries import endpoints, receivers
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.deliveries.endpoints import Health, Trouble
from carpool_worker.store.deliveries.outcomes import Claimed, ClaimOutcome
from carpool_worker.store.deliveries.rows import FIRST, Turn
from carpool_worker.store.requests import sendable
from carpool_worker.store.requests.sendable import Key, Sendable
from carpool_worker.units import Milliseconds

AWAY = (sa.exc.OperationalError, sa.exc.InterfaceError, psycopg.OperationalError)
"""Raised while the database can't be reached, is locked or has no room."""

CLAIM_ROWS = 40
"""Claimed in one transaction: up to 8,000 deliveries, whose answers are not loaded yet."""


class Busy(NamedTuple):
    """For which nothing is claimed now: whole receivers, and clients of them."""

    receivers: frozenset[str] = frozenset()
    turns: frozenset[Turn] = frozenset()

    def is_freed_by(self, later: Busy) -> bool:
        """Return whether anything is no longer busy."""
        return bool(self.receivers - later.receivers or self.turns - later.turns)


@dataclass(frozen=True)
class Claims:
    """What was claimed, the turn after which to go on, and the URLs among the targets that fail or are stopped."""

    rows: Sequence[Claimed]
    last: Turn
    troubles: Mapping[str, Trouble]


@dataclass
class Findings:
    """What a courier has to record."""

    outcomes: Sequence[ClaimOutcome] = ()
    well: set[str] = field(default_factory=set)  # URLs that took a delivery
    failing: set[str] = field(default_factory=set)  # URLs that failed
    gone: set[str] = field(default_factory=set)  # URLs that want no more deliveries
    stopped: dict[str, str] = field(default_factory=dict)  # URLs that were found stopped, and why
    parked: dict[str, tuple[int, str]] = field(default_factory=dict)  # receivers, until when and why
    unparked: set[str] = field(default_factory=set)  # receivers

    def __bool__(self) -> bool:
        return bool(self.outcomes or self.stopped or self.parked or self.unparked)


def own_secrets(engine: sa.Engine) -> dict[str, list[str]]:
    """Return the secrets of clients whose webhooks are signed with some of their own."""
    with database.read(engine) as connection:
        return webhook_secrets.load(connection, database.now())


def claim(
    engine: sa.Engine, after: Turn, busy: Busy, lease: Milliseconds, quick: Mapping[str, int] | None = None
) -> Claims:
    """Claim rows for the duration of `lease`, but for those that are busy.

    Of each receiver and client it is one row until the receiver is `quick` (None: all are), as one that hangs may have
    any number. With such a receiver comes how many clients there are of which it has rows that are not loaded yet.
    """
    with database.read(engine) as connection:
        turns = _turns(connection, after, busy)
    if not turns:
        return Claims([], FIRST, {})
    with database.write(engine) as connection:
        until = database.now() + lease
        claimed = [
            row
            for each, some in _by_rows(turns, quick).items()
            for row in deliveries.claim(connection, some, each, until)
        ]
    with database.read(engine) as connection:
        urls = {one.target for one in claimed if one.channel == "webhook"}
        troubles = {trouble.url: trouble for trouble in endpoints.troubles(connection, urls)}
    return Claims(claimed, turns[-1], troubles)


def load(engine: sa.Engine, claims: Sequence[Claimed], most_bytes: int) -> dict[Key, list[Sendable]]:
    """Load what is to be sent of claimed rows, see sendable.load."""
    with database.read(engine) as connection:
        return sendable.load(connection, claims, most_bytes)


def record(engine: sa.Engine, findings: Findings, stop_after: Milliseconds) -> None:
    """Record what became of claimed rows; an endpoint that has failed for `stop_after` is stopped."""
    health = Health(*(frozenset(urls) for urls in (findings.well, findings.failing, findings.gone)))
    with database.write(engine) as connection:
        now = database.now()
        deliveries.record(connection, findings.outcomes, now)
        endpoints.record_health(connection, health, stop_after, now)
        for url, reason in sorted(findings.stopped.items()):
            deliveries.give_up_stopped(connection, url, reason, now)
        receivers.park(connection, findings.parked)
        receivers.unpark(connection, findings.unparked)


def _by_rows(turns: Sequence[Turn], quick: Mapping[str, int] | None) -> Mapping[int, Sequence[Turn]]:
    """Return the turns by how many rows are claimed of each: the fewer, the more clients there are."""
    by_rows: defaultdict[int, list[Turn]] = defaultdict(list)
    for turn in turns:
        others = 0 if quick is None else quick.get(turn.receiver, CLAIM_ROWS)
        by_rows[max(1, CLAIM_ROWS // (len(turns) + others))].append(turn)
    return by_rows


def _turns(connection: sa.Connection, after: Turn, busy: Busy) -> list[Turn]:
    now = database.now()
    turns = deliveries.turns(connection, after, CLAIM_ROWS, now, *busy)
    if len(turns) < CLAIM_ROWS and after != FIRST:
        turns += deliveries.turns(connection, FIRST, CLAIM_ROWS - len(turns), now, *busy)
    return list(dict.fromkeys(turns))
