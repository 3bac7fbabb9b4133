"""Warns of budgets of keys that are used up by half, by four fifths and wholly: in the log, and by a webhook.

A warning is committed before it is sent, once for each share and period, and its webhook is tried until it is taken
or the schedule of webhooks is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256

import sqlalchemy as sa

from carpool.answers import rfc3339
from carpool.contract import to_json
from carpool_worker.database import now, read, write
from carpool_worker.models import BudgetWarning
from carpool_worker.pipeline.delivery.channels import Outgoing
from carpool_worker.pipeline.delivery.channels.webhook import WebhookChannel
from carpool_worker.policies.budget_warnings import periods, used_up
from carpool_worker.policies.deliveries import Event
from carpool_worker.settings import Settings
from carpool_worker.store import budget_warnings, gateway_keys
from carpool_worker.store.requests import reservations
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import Milliseconds, after

LEASE_SECONDS = 120.0
"""For which a warning that is being sent belongs to one process."""

log = get_logger(__name__)


def warn(engine: sa.Engine, settings: Settings) -> int:
    """Make the warnings that are due, and send those that were not taken yet; return how many were made.

    The `carpool.rescue` task calls it, every ten seconds.
    """
    with read(engine) as connection:
        keys = gateway_keys.all_with_budgets(connection)
        at = now()
        balances = reservations.key_balances(connection, keys, at)
        known = budget_warnings.known(connection, periods(at).values()) if keys else set()
    reached = [share for name, balance in balances.items() for share in used_up(name, balance, at)]
    new = [share for share in reached if share[:3] not in known]
    if new:
        with write(engine) as connection:
            new = budget_warnings.add(connection, new, at, is_sent=bool(settings.budget_webhook))
    for share in new:
        log.warning("budget used", key=share.gateway_key, period=share.period, percent=share.percent)
    if settings.budget_webhook:
        _send_due(engine, settings)
    return len(new)


def _send_due(engine: sa.Engine, settings: Settings) -> None:
    at = now()
    with write(engine) as connection:
        due = budget_warnings.claim(connection, at, after(at, LEASE_SECONDS))
    if not due:
        return
    taken = asyncio.run(_send(due, settings))
    with write(engine) as connection:
        for warning, is_taken in zip(due, taken, strict=True):
            attempts = warning.attempts + 1
            again = None if is_taken else _next(settings, attempts)
            budget_warnings.record(connection, warning, again, attempts)
            if not is_taken and again is None:
                log.error("warning of a budget given up on", key=warning.gateway_key, percent=warning.percent)


async def _send(due: Sequence[BudgetWarning], settings: Settings) -> list[bool]:
    async with WebhookChannel(settings) as channel:
        posts = (channel.send(outgoing(one, settings.budget_webhook)) for one in due)
        sent = await asyncio.gather(*posts)
    return [one.event is Event.ANSWERED and 200 <= (one.status or 0) < 300 for one in sent]


def outgoing(warning: BudgetWarning, url: str) -> Outgoing:
    """Return the webhook of a warning: `budget.warned`, signed with the general secret."""
    period = "month" if len(warning.period) == len("2026-11") else "day"
    data = {
        "key": warning.gateway_key,
        "period": period,
        period: warning.period,
        "percent": warning.percent,
        "budget": f"{warning.budget:f}",
        "used": f"{warning.used:f}",
    }
    named = f"{warning.gateway_key}\0{warning.period}\0{warning.percent}".encode()
    at = rfc3339(warning.warned_at)
    return Outgoing(sha256(named).hexdigest()[:32], "warned", url, "", at, to_json(data), kind="budget")


def _next(settings: Settings, attempts: int) -> Milliseconds | None:
    schedule = settings.webhook_schedule
    return after(now(), schedule[attempts - 1]) if attempts <= len(schedule) else None
