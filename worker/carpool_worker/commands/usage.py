"""`carpool usage`: what was used, what it cost and what it saved, by client, key, model and day."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.completion import complete_key
from carpool_worker.commands.options import OfClient
from carpool_worker.exceptions import WorkerError

if TYPE_CHECKING:
    from carpool_worker.views.usage import UsageView

By = Annotated[
    str,
    typer.Option("--by", help="What to sum by: some of client, key, model, processing and day, with commas."),
]
SinceDay = Annotated[
    str,
    typer.Option(
        "--since",
        metavar="WHEN",
        help="The first day (UTC): 2026-11-01, today, or 36h, 7d, 2w for so long ago.",
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
JsonList = Annotated[bool, typer.Option("--json", help="Print JSON, a list of rows.")]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Also draw the cost by day into this PNG (or PDF, SVG)."),
]


def usage(
    by: By = "client,model",
    since: SinceDay = "7d",
    until: UntilDay = None,
    client: OfClient = None,
    key: OfKey = None,
    as_csv: Csv = False,
    as_json: JsonList = False,
    plot: Plot = None,
) -> None:
    """Show what was used, what it cost and what it saved.

    Whole days (UTC) are summed; an answer counts on the day its batch ended. Costs are exact, from each answer's own
    usage and its day's prices. Requests of a model without a known price are counted and named, and never priced as
    zero. In JSON and CSV money is in dollars to the last digit, and an unknown cost is null, or empty. Examples:

        carpool usage --since 30d
        carpool usage --by day --client billing
        carpool usage --by key,model --since 30d
        carpool usage --by processing            # in batches, and in real time at the full price
        carpool usage --by client,model,day --since 2026-11-01 --until 2026-11-30 --csv > november.csv
        carpool usage --json | jq 'map(.saved) | add'
    """
    from carpool_worker.commands import usage_plot, usage_tables
    from carpool_worker.commands.times import day_of
    from carpool_worker.processes.preflight import check_tables

    _check_formats(as_csv, as_json)
    dimensions = _dimensions(by)
    first, last = day_of("--since", since), day_of("--until", until) if until else None
    check_tables()
    rows = _totals(dimensions, first, last, client, key)
    if as_json or as_csv:
        _print(rows, dimensions, as_csv)
    else:
        usage_tables.show(rows, dimensions, first, last)
    usage_tables.warn_of_unpriced(rows)
    if plot:
        usage_plot.draw(_totals(_with_days(dimensions), first, last, client, key), plot)


def _check_formats(as_csv: bool, as_json: bool) -> None:
    if as_csv and as_json:
        raise WorkerError("--csv can't be combined with --json")


def _dimensions(by: str) -> list[str]:
    from carpool_worker.views.usage import DIMENSIONS

    named = [part.strip() for part in by.split(",") if part.strip()]
    if not named or len(set(named)) < len(named) or not set(named) <= set(DIMENSIONS):
        raise WorkerError(f"--by {by}: name one or more of {', '.join(DIMENSIONS)}, each only once")
    return named


def _print(rows: Sequence[UsageView], dimensions: Sequence[str], as_csv: bool) -> None:
    from carpool_worker.views.usage import to_csv, to_json

    if as_csv:
        typer.echo(to_csv(rows, dimensions), nl=False)
    else:
        typer.echo(to_json(rows, dimensions))


def _with_days(dimensions: Sequence[str]) -> list[str]:
    return ["day", *(dimension for dimension in dimensions if dimension != "day")]


def _totals(
    by: Sequence[str], first: str, last: str | None, client: str | None, key: str | None
) -> list[UsageView]:
    from carpool_worker.database import read
    from carpool_worker.views.usage import totals

    with read() as connection:
        return totals(connection, by, first, last, client, key)
