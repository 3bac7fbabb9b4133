"""Receivers of deliveries: their names, and SQL about those that are parked, as they hang or are slow."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

import sqlalchemy as sa

from carpool.callbacks import Webhook, decode
from carpool_worker.models.tables import deliveries, parked_receivers
from carpool_worker.outside_text import cleaned
from carpool_worker.store.upserts import upsert

QUEUE = "queue:"
"""Prefix of the receivers of tasks, which are their queues."""

SLOW = "slow"
"""Why a receiver is parked that hangs; any other reason is a sentence, for the operator."""

LONGEST_REASON = 1_000
"""Characters."""

PORTS = {"https": 443, "http": 80}


class Destination(NamedTuple):
    """Where deliveries go: the kind of callback, the URL or the task's name, and who receives there."""

    channel: str
    target: str
    receiver: str


@lru_cache(maxsize=4_096)
def destination(callback: str) -> Destination:
    """Return where the answers of requests with this callback (JSON) go."""
    to = decode(callback)
    if isinstance(to, Webhook):
        return Destination("webhook", to.url, host_and_port(to.url))
    return Destination("task", to.name, QUEUE + to.queue)


def host_and_port(url: str) -> str:
    """Return the host and port of a URL, or "" if it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return ""
    return f"{parts.hostname}:{port}" if parts.hostname and port else ""


def park(connection: sa.Connection, given: Mapping[str, tuple[int, str]]) -> None:
    """Leave alone what is due to these receivers, whichever courier would claim it; given until when and why."""
    parked = [
        {"receiver": one, "parked_until": until, "reason": cleaned(reason, LONGEST_REASON)}
        for one, (until, reason) in sorted(given.items())
    ]
    upsert(connection, parked_receivers, parked, replace=("parked_until", "reason"))


def unpark(connection: sa.Connection, receivers: Collection[str]) -> None:
    """Claim again what is due to these receivers."""
    for one in sorted(receivers):
        connection.execute(sa.delete(parked_receivers).where(parked_receivers.c.receiver == one))


def forget_past(connection: sa.Connection, now: int) -> None:
    """Delete the receivers whose time is over."""
    connection.execute(sa.delete(parked_receivers).where(parked_receivers.c.parked_until <= now))


def next_unparked(connection: sa.Connection) -> int | None:
    """Return when the time of the next receiver is over, if any is parked."""
    earliest: int | None = connection.scalar(sa.select(sa.func.min(parked_receivers.c.parked_until)))
    return earliest


def reasons_parked(connection: sa.Connection) -> list[str]:
    """Return why receivers are parked that are not just slow: a sentence for each that has no room."""
    row = parked_receivers.c
    found = connection.scalars(sa.select(row.reason).where(row.reason != SLOW).order_by(row.receiver))
    return list(dict.fromkeys(found))


def is_parked(now: int) -> sa.ColumnElement[bool]:
    """Return the condition that the receiver of a row of deliveries is parked."""
    same = parked_receivers.c.receiver == deliveries.c.receiver
    return sa.exists().where(same, parked_receivers.c.parked_until > now)
