"""Spend: what was spent and saved, by day and by whom, and where the month goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from aiohttp import web

from carpool_worker.console.command_lines import command_line
from carpool_worker.console.day_filters import days, one_of
from carpool_worker.console.filters import check_known
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.refusals import NotHere
from carpool_worker.formatting import dollars, short
from carpool_worker.views import spend_charts
from carpool_worker.views.spend import BY, SpendFilter, SpendView, spent
from carpool_worker.views.spend_charts import Themes
from carpool_worker.views.usage import UsageView, to_csv, together, totals

NAMES = ("client", "key", "model", "account")
KNOWN = ("by", "since", "until", *NAMES)
CSV_BY = ("day", "client", "key", "model", "account", "processing")
FRESH_SECONDS = 10.0
PERIODS = {"7d": "7 days", "30d": "30 days", "90d": "90 days", "365d": "a year"}


@dataclass(frozen=True)
class SpendPage:
    """What was spent, with its charts."""

    found: SpendView
    days_chart: Themes
    days_table: Mapping[str, Any]
    month_chart: Themes | None


async def show(page: PageCall) -> web.StreamResponse:
    """Answer with what was spent."""
    today = datetime.now(UTC).date()
    wanted = filter_of(page, today)
    by = one_of(page.query, "by", BY, "client")
    settings = page.console.settings

    async def ask() -> SpendPage:
        def read(connection: sa.Connection) -> SpendPage:
            return _page(spent(connection, settings, wanted, by, today), wanted, by)

        return await page.console.read(read)

    shown = await page.cached(("spend", wanted, by), FRESH_SECONDS, ask)
    return page.draw(
        "spend.html",
        found=shown.found,
        days_chart=shown.days_chart,
        days_table=shown.days_table,
        month_chart=shown.month_chart,
        wanted=wanted,
        by=by,
        dimensions=BY,
        periods=PERIODS,
        command=command(wanted, by),
    )


async def download(page: PageCall) -> web.StreamResponse:
    """Answer with a CSV of the days and all dimensions, filtered as the page is."""
    wanted = filter_of(page, datetime.now(UTC).date())
    first, last = wanted.first.isoformat(), wanted.last.isoformat()

    def ask(connection: sa.Connection) -> list[UsageView]:
        return totals(connection, CSV_BY, first, last, wanted.client, wanted.key)

    rows = [row for row in await page.console.read(ask) if _is_wanted(row, wanted)]
    text = await page.console.run(lambda: to_csv(rows, CSV_BY))
    name = f"carpool-usage-{first}-{last}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(text=text, content_type="text/csv", headers=headers)


def filter_of(page: PageCall, today: date) -> SpendFilter:
    """Return what the URL asks about; of a tenant, its own.

    Raises:
        BadFilter: a filter is unknown, or is none that it can be.
        NotHere: a tenant asks about somebody else.
    """
    query = page.query
    check_known(query, KNOWN)
    first, last = days(query, today)
    names: dict[str, Any] = {name: query.get(name) or None for name in NAMES}
    if page.user.client is not None:
        if names["client"] not in (None, page.user.client):
            raise NotHere
        names["client"] = page.user.client
    return SpendFilter(first=first, last=last, **names)


def _page(found: SpendView, wanted: SpendFilter, by: str) -> SpendPage:
    return SpendPage(
        found,
        spend_charts.days_chart(found, wanted),
        days_table(found, wanted, by),
        None if found.month is None else spend_charts.month_chart(found, wanted),
    )


def days_table(found: SpendView, wanted: SpendFilter, by: str) -> dict[str, Any]:
    """Return the numbers of the chart: a line for each day, or month, and name; the newest first."""
    length = len("2026-11") if spend_charts.is_by_month(wanted.first, wanted.last) else len("2026-11-22")
    grouped: dict[tuple[str, str], list[UsageView]] = defaultdict(list)
    for row in reversed(found.shown(wanted)):
        grouped[row.day[:length], getattr(row, by)].append(row)
    sums = {names: together(some) for names, some in grouped.items()}
    rows = [(*names, short(one.requests), _money(one)) for names, one in sums.items()]
    return {"columns": ("Day" if length > 7 else "Month", by.capitalize(), ">Answers", ">Cost"), "rows": rows}


def command(wanted: SpendFilter, by: str) -> str:
    """Return the command that prints the same."""
    days = {"since": wanted.first, "until": wanted.last}
    return command_line("usage", by=f"{by},day", **days, client=wanted.client, key=wanted.key)


def _is_wanted(row: UsageView, wanted: SpendFilter) -> bool:
    return wanted.model in (None, row.model) and wanted.account in (None, row.account)


def _money(row: UsageView) -> str:
    return "unknown" if row.cost is None else dollars(row.cost)
