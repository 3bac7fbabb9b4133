"""`carpool usage`: what was used, what it cost and what it saved, by client, key, model, account and day."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carpool_worker.commands.completion import complete_key
from carpool_worker.commands.options import Json, OfClient
from carpool_worker.exceptions import WorkerError

if TYPE_CHECKING:
    from carpool_worker.views.usage import UsageView

By = Annotated[
    str,
    typer.Option(
        "--by", help="What to sum by: some of client, key, model, account, processing and day, with commas."
    ),
]
SinceDay = Annotated[
    str,
    typer.Option(
        "--since",
        metavar="WHEN",
        help="The first day (UTC): 2026-11-01, today, or 36h, 7d, 2w for so long ago.",
    ),
]
FirstDay = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        help="The first day (UTC): 2026-11-01, today, or 36h, 7d, 2w for so long ago.",
        show_default="7d",
    ),
]
Month = Annotated[
    str | None,
    typer.Option(
        "--month",
        metavar="MONTH",
        help="A whole month in place of --since and --until: 2026-11, this or last.",
        show_default=False,
    ),
]
UntilDay = Annotated[
    str | None, typer.Option("--until", metavar="WHEN", help="The last day.", show_default="today")
]
OfKey = Annotated[
    str | None,
    typer.Option(
        "--key", help="Only that of this key of the gateway.", show_default="all", autocompletion=complete_key
    ),
]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
DecimalComma = Annotated[
    bool,
    typer.Option(
        "--decimal-comma", help="CSV with semicolons and decimal commas, for spreadsheets that expect them."
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Also draw what was spent and saved: a .png, .svg, .pdf, .html or .json.",
    ),
]
Dark = Annotated[bool, typer.Option("--dark", help="Draw it for a dark page.")]


def usage(
    by: By = "client,model",
    since: FirstDay = None,
    until: UntilDay = None,
    month: Month = None,
    client: OfClient = None,
    key: OfKey = None,
    as_csv: Csv = False,
    decimal_comma: DecimalComma = False,
    as_json: Json = False,
    plot: Plot = None,
    dark: Dark = False,
) -> None:
    """Show what was used, what it cost and what it saved.

    Whole days (UTC) are summed; an answer counts on the day its batch ended. Costs are exact, from each answer's own
    usage and its day's prices. Requests of a model without a known price are counted and named, and never priced as
    zero. In JSON and CSV money is in dollars to the last digit, and an unknown cost is null, or empty.

    The picture of --plot has a bar for each day, or for each month of many days, and what a month has cost so far, with
    a forecast from the last seven days. It shows the budget of --client, or of the only client. An .html can be pointed
    at; a .json is the Vega-Lite specification. Examples:

        carpool usage --month this
        carpool usage --month last --plot bill.svg
        carpool usage --since 30d
        carpool usage --by day --client billing
        carpool usage --by key,model --since 30d
        carpool usage --by processing            # in batches, and in real time at the full price
        carpool usage --by client,model,day --since 2026-11-01 --until 2026-11-30 --csv > november.csv
        carpool usage --json | jq -s 'map(.saved | tonumber) | add'
    """
    from carpool_worker.commands import usage_plot, usage_tables
    from carpool_worker.commands.tables import print_json
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.views.usage import records, to_csv

    _check_formats(as_csv, as_json, decimal_comma)
    if plot:
        usage_plot.check_kind(plot)
    dimensions = _dimensions(by)
    first, last = _days(since, until, month)
    check_tables()
    rows = _totals(dimensions, first, last, client, key)
    if as_json:
        print_json(records(rows, dimensions))
    elif as_csv:
        typer.echo(to_csv(rows, dimensions, decimal_comma=decimal_comma), nl=False)
    else:
        usage_tables.show(rows, dimensions, first, last)
    usage_tables.warn_of_unpriced(rows)
    if plot:
        usage_plot.draw(_picture(dimensions, first, last, client, key, dark), plot)
        typer.echo(f"Drawn: {plot}", err=True)


def _check_formats(as_csv: bool, as_json: bool, decimal_comma: bool) -> None:
    if as_csv and as_json:
        raise WorkerError("--csv can't be combined with --json")
    if decimal_comma and not as_csv:
        raise WorkerError("--decimal-comma is for --csv")


def _days(since: str | None, until: str | None, month: str | None) -> tuple[str, str | None]:
    from carpool_worker.commands.times import day_of, days_of_month

    if month is None:
        return day_of("--since", since or "7d"), day_of("--until", until) if until else None
    if since or until:
        raise WorkerError("--month can't be combined with --since or --until: it has both")
    return days_of_month("--month", month)


def _dimensions(by: str) -> list[str]:
    from carpool_worker.views.usage import DIMENSIONS

    named = [part.strip() for part in by.split(",") if part.strip()]
    if not named or len(set(named)) < len(named) or not set(named) <= set(DIMENSIONS):
        raise WorkerError(f"--by {by}: name one or more of {', '.join(DIMENSIONS)}, each only once")
    return named


def _picture(
    dimensions: Sequence[str], first: str, last: str | None, client: str | None, key: str | None, dark: bool
) -> dict[str, Any]:
    from datetime import UTC, date, datetime, timedelta

    from carpool_worker.policies.budgets import budget_of
    from carpool_worker.settings import settings
    from carpool_worker.views.forecast import DAYS_LOOKED_AT
    from carpool_worker.views.usage_chart import usage_chart

    today = datetime.now(UTC).date()
    begin, end = date.fromisoformat(first), min(date.fromisoformat(last) if last else today, today)
    begin = min(begin, end)
    by = ["day", *(dimension for dimension in dimensions if dimension != "day")]
    from_day = min(begin, end.replace(day=1), end - timedelta(DAYS_LOOKED_AT))
    rows = _totals(by, from_day.isoformat(), end.isoformat(), client, key)
    of = client or next(iter({row.client for row in rows if row.client}), None)
    is_only = client or ("client" in by and len({row.client for row in rows}) == 1)
    budget = budget_of(settings().budgets, of) if of and is_only and key is None else None
    return usage_chart(rows, begin, end, today, budget, dark=dark)


def _totals(
    by: Sequence[str], first: str, last: str | None, client: str | None, key: str | None
) -> list[UsageView]:
    from carpool_worker.database import read
    from carpool_worker.views.usage import totals

    with read() as connection:
        return totals(connection, by, first, last, client, key)
