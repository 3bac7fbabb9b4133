"""Overview: the flow, what needs somebody, today's money, and the last day by hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import sqlalchemy as sa
from aiohttp import web
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from carpool_worker import doctor
from carpool_worker.console.live import moving
from carpool_worker.console.needs import needs
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.pages.health import DOCTOR_SECONDS
from carpool_worker.database import now
from carpool_worker.doctor import Finding, Verdict
from carpool_worker.policies.budgets import DEFAULT
from carpool_worker.settings import Settings
from carpool_worker.units import SECOND
from carpool_worker.views import budgets, deliveries, usage
from carpool_worker.views.budgets import BudgetView, PeriodView
from carpool_worker.views.deliveries import EndpointView
from carpool_worker.views.last_day import HourOfDay, answer_times_chart, last_day, throughput_chart
from carpool_worker.views.status import Status, answering_workers, status
from carpool_worker.views.usage import UsageView

STATUS_SECONDS = 90.0
MONEY_SECONDS = 60.0
WORKERS_SECONDS = 30.0
"""How old what needs somebody, what was spent, and who answers may be; what moves is newer (live.py)."""

NOT_ASKED = ("not asked yet",)
"""In place of the names of workers, so that none is missed before they have been asked."""

DEAREST = 24
"""Clients of today whose budgets are looked at, beside those that have one of their own."""

GAUGES = 6
"""Budgets that are shown, the fullest first."""


@dataclass(frozen=True)
class Today:
    """What today's answers have cost and saved, the budgets of clients, and the receivers that need somebody."""

    used: UsageView
    budgets: Mapping[str, BudgetView]
    troubled: Sequence[EndpointView]

    @property
    def gauges(self) -> list[tuple[str, str, PeriodView]]:
        """Of each client the fullest of its periods, as client, period and balance, the fullest first."""
        each = [
            (client, *max(budget.periods.items(), key=lambda one: _filled(one[1])))
            for client, budget in self.budgets.items()
        ]
        return sorted(each, key=lambda one: -_filled(one[2]))[:GAUGES]


def _filled(balance: PeriodView) -> Decimal:
    return balance.spent / balance.limit


async def show(page: PageCall) -> web.StreamResponse:
    """Answer with the overview."""
    console = page.console

    async def read_workers() -> Sequence[str]:
        return await console.run(lambda: _workers(console.settings))

    async def read_status() -> Status:
        names = NOT_ASKED if workers is None else workers
        return await console.run(lambda: status(console.engine, console.server, console.settings, names))

    async def read_today() -> tuple[Today, list[HourOfDay]]:
        return await console.read(lambda connection: _today(connection, console.settings))

    workers = await page.at_once("workers", WORKERS_SECONDS, read_workers)
    found = await page.cached(("status", workers is None), STATUS_SECONDS, read_status)
    today, hours = await page.cached("today", MONEY_SECONDS, read_today)
    findings = await _findings(page)
    return page.draw(
        "overview.html",
        flow=await moving(console),
        status=found,
        oldest={one.state.value: one.opened_at for one in found.batches},
        needs=needs(found, today.troubled, today.budgets, findings or ()),
        is_unread=workers is None or findings is None,
        warnings=sum(one.verdict is Verdict.WARNING and one.alert is None for one in findings or ()),
        today=today,
        answered=sum(one.succeeded + one.failed for one in hours),
        throughput=throughput_chart(hours),
        times=answer_times_chart(hours),
        counts=_counts(hours),
        minutes=_minutes(hours),
    )


def _workers(settings: Settings) -> Sequence[str]:
    try:
        return answering_workers(settings)
    except (RedisError, BrokerError, OSError):  # the status says why
        return ()


async def _findings(page: PageCall) -> Sequence[Finding] | None:
    """Return what the doctor found at most some minutes ago; None while nothing is known yet."""

    async def ask() -> list[Finding]:
        return await page.console.run(lambda: list(doctor.examine()))

    return await page.at_once("doctor", DOCTOR_SECONDS, ask)


def _today(connection: sa.Connection, settings: Settings) -> tuple[Today, list[HourOfDay]]:
    at = now()
    day = datetime.fromtimestamp(at / SECOND, UTC).date().isoformat()
    rows = usage.totals(connection, ["client"], day, day)
    names = {*(row.client for row in rows[:DEAREST]), *settings.budgets} - {DEFAULT}
    found = budgets.of_clients(connection, settings, sorted(names))
    troubled = deliveries.troubled_endpoints(connection)
    return Today(usage.together(rows), found, troubled), last_day(connection, at)


def _counts(hours: Sequence[HourOfDay]) -> Mapping[str, object]:
    rows = [[_hour(one), f"{one.succeeded:,}", f"{one.failed:,}"] for one in hours]
    return {"columns": ["Hour (UTC)", ">Succeeded", ">Failed"], "rows": rows}


def _minutes(hours: Sequence[HourOfDay]) -> Mapping[str, object]:
    rows = [
        [
            _hour(one),
            *("–" if time is None else f"{time / 60:,.1f}" for time in (one.half_within, one.most_within)),
        ]
        for one in hours
    ]
    return {"columns": ["Hour (UTC)", ">Half within (min)", ">95 % within (min)"], "rows": rows}


def _hour(one: HourOfDay) -> str:
    return f"{datetime.fromtimestamp(one.at / SECOND, UTC):%d %b %H:%M}"
