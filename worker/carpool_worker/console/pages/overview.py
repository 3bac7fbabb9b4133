"""Overview: the flow, what needs somebody, today's money, and the last day by hour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import sqlalchemy as sa
from aiohttp import web
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from carpool_worker.console.live import moving
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.refusals import BadFilter
from carpool_worker.database import now
from carpool_worker.operations import lanes as lane_operations
from carpool_worker.settings import Settings
from carpool_worker.units import SECOND
from carpool_worker.views import budgets, usage
from carpool_worker.views.alerts import Alert, AlertKind, alerts
from carpool_worker.views.budgets import BudgetView
from carpool_worker.views.last_day import HourOfDay, answer_times_chart, last_day, throughput_chart
from carpool_worker.views.status import Status, answering_workers, status

STATUS_SECONDS = 60.0
MONEY_SECONDS = 60.0
WORKERS_SECONDS = 30.0
"""How old what needs somebody, what was spent, and who answers may be; what moves is newer (live.py)."""

NOT_ASKED = ("not asked yet",)
"""In place of the names of workers, so that none is missed before they have been asked."""

BAD = {AlertKind.REDIS_AWAY, AlertKind.NO_WORKER, AlertKind.BEAT_SILENT, AlertKind.POSTED_TWICE}

PAGES = {
    AlertKind.POSTED_TWICE: "/batches",
    AlertKind.BATCH_IN_DOUBT: "/batches",
    AlertKind.BATCH_OVERDUE: "/batches",
    AlertKind.BATCH_UNREAD: "/batches",
    AlertKind.DELIVERIES_GIVEN_UP: "/deliveries",
    AlertKind.ENDPOINTS_STOPPED: "/deliveries",
    AlertKind.ENDPOINTS_FAILING: "/deliveries",
    AlertKind.QUEUE_FULL: "/deliveries",
    AlertKind.ENTRIES_QUARANTINED: "/health",
    AlertKind.BATCHES_UNSEEN: "/health",
    AlertKind.NO_WORKER: "/health",
    AlertKind.BEAT_SILENT: "/health",
    AlertKind.REDIS_AWAY: "/health",
}
"""Where more is to be seen about an alert."""


@dataclass(frozen=True)
class Need:
    """A card: something that needs somebody, the page about it, the command that helps, and the lane to resume."""

    sentence: str
    kind: str  # bad or warning
    page: str | None = None
    command: str | None = None
    lane: str | None = None


@dataclass(frozen=True)
class Today:
    """What today's answers have cost and saved, in dollars (None: nothing of known price), and budgets by client."""

    cost: Decimal | None
    saved: Decimal | None
    requests: int
    budgets: Mapping[str, BudgetView]


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
    return page.draw(
        "overview.html",
        flow=await moving(console),
        status=found,
        oldest={one.state.value: one.opened_at for one in found.batches},
        needs=[*needs(page, found), *_over_budget(today.budgets)],
        today=today,
        answered=sum(one.succeeded + one.failed for one in hours),
        throughput=throughput_chart(hours),
        times=answer_times_chart(hours),
        numbers=_numbers(hours),
    )


async def resume(page: PageCall) -> web.StreamResponse:
    """Resume a paused lane, and lead back."""
    lane = (await page.form()).get("lane")
    if not lane:
        raise BadFilter("lane: name the lane that is to be resumed")
    engine, actor = page.console.engine, page.user.name
    await page.act("resume", f"lane {lane}", lambda: lane_operations.resume(engine, [lane], actor=actor))
    return page.see("/", f"Lane {lane} is resumed: its batches go on within seconds.")


def needs(page: PageCall, found: Status) -> Iterator[Need]:
    """Yield a card for each alert, and for each lane that an operator paused."""
    for alert in alerts(found):
        yield _need(page, alert)
    for lane in found.lanes:
        if lane.paused and lane.paused_by_operator:
            yield Need(f"lane {lane.lane} is paused by an operator: {lane.reason}", "warning", lane=lane.lane)


def _workers(settings: Settings) -> Sequence[str]:
    try:
        return answering_workers(settings)
    except (RedisError, BrokerError, OSError):  # the status says why
        return ()


def _need(page: PageCall, alert: Alert) -> Need:
    path = PAGES.get(alert.kind)
    shown = path if path and page.has(path) else None
    if shown == "/batches" and alert.subject:
        shown = f"/batches/{alert.subject}"
    lane = alert.subject if alert.kind is AlertKind.LANE_PAUSED else None
    return Need(alert.sentence, "bad" if alert.kind in BAD else "warning", shown, alert.command, lane)


def _over_budget(found: Mapping[str, BudgetView]) -> Iterator[Need]:
    for client, budget in found.items():
        if budgets.used_up(budget):
            rest = "its requests wait" if budget.over.value == "wait" else "its requests are refused"
            yield Need(f"the budget of {client} is used up ({budget}): {rest}", "warning", None, None)


def _today(connection: sa.Connection, settings: Settings) -> tuple[Today, list[HourOfDay]]:
    at = now()
    day = datetime.fromtimestamp(at / SECOND, UTC).date().isoformat()
    rows = usage.totals(connection, ["day"], day, day)
    row = rows[0] if rows else None
    found = budgets.all_budgets(connection, settings)
    today = Today(
        cost=row.cost if row else None,
        saved=row.saved if row else None,
        requests=row.requests if row else 0,
        budgets=found,
    )
    return today, last_day(connection, at)


def _numbers(hours: Sequence[HourOfDay]) -> Mapping[str, object]:
    rows = [
        [
            f"{datetime.fromtimestamp(one.at / SECOND, UTC):%d %b %H:%M}",
            f"{one.succeeded:,}",
            f"{one.failed:,}",
            *("–" if time is None else f"{time / 60:,.1f}" for time in (one.half_within, one.most_within)),
        ]
        for one in hours
    ]
    columns = ["Hour (UTC)", ">Succeeded", ">Failed", ">Half within (min)", ">95 % within (min)"]
    return {"columns": columns, "rows": rows}
