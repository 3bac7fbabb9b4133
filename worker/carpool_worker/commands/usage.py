"""`carpool usage`: what was used, what it cost and what it saved, by client, model and day."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.exceptions import WorkerError

if TYPE_CHECKING:
    from carpool_worker.store.usage import Used

By = Annotated[str, typer.Option(help="What to sum by: some of client, model, day; commas between.")]
Since = Annotated[
    str, typer.Option(metavar="WHEN", help="The first day (UTC): 2026-11-01, or so long ago: 7d, 36h, 2w.")
]
Until = Annotated[str | None, typer.Option(metavar="WHEN", help="The last day.", show_default="today")]
OfClient = Annotated[str | None, typer.Option("--client", help="Only this client.", show_default="all")]


def usage(
    by: By = "client,model",
    since: Since = "7d",
    until: Until = None,
    client: OfClient = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list of rows.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the cost by day into this PNG (or PDF, SVG) too."),
    ] = None,
) -> None:
    """Show what was used, what it cost and what it saved.

    Whole days (UTC) are summed, an answer counts on the day its batch ended. Costs are exact, from each answer's own
    usage and its day's prices; requests of a model without a known price are counted and named, and never priced as
    zero. In JSON and CSV money is in dollars to the last digit, and a cost that is unknown is null, or empty.

        carpool usage --since 30d
        carpool usage --by day --client billing
        carpool usage --by client,model,day --since 2026-11-01 --until 2026-11-30 --csv > november.csv
        carpool usage --json | jq 'map(.saved) | add'
    """
    from carpool_worker.commands import usage_tables
    from carpool_worker.commands.days import day_of
    from carpool_worker.processes import preflight

    if as_csv and as_json:
        raise WorkerError("--csv and --json: one of them")
    dimensions = _dimensions(by)
    first, last = day_of("--since", since), day_of("--until", until) if until else None
    preflight.check_tables()
    rows = _totals(dimensions, first, last, client)
    if as_json:
        typer.echo(usage_tables.to_json(rows, dimensions))
    elif as_csv:
        typer.echo(usage_tables.to_csv(rows, dimensions), nl=False)
    else:
        usage_tables.show(rows, dimensions, first, last)
    usage_tables.warn_of_unpriced(rows)
    if plot:
        from carpool_worker.commands.usage_plot import draw

        others = [dimension for dimension in dimensions if dimension != "day"]
        draw(_totals(["day", *others], first, last, client), plot)


def _dimensions(by: str) -> list[str]:
    from carpool_worker.store.usage import DIMENSIONS

    named = [part.strip() for part in by.split(",") if part.strip()]
    if not named or len(set(named)) < len(named) or not set(named) <= set(DIMENSIONS):
        raise WorkerError(f"--by {by}: name each of {', '.join(DIMENSIONS)} once at most")
    return named


def _totals(by: Sequence[str], first: str, last: str | None, client: str | None) -> list[Used]:
    from carpool_worker.database import engine, read
    from carpool_worker.store import usage as ledger

    with read(engine()) as connection:
        return ledger.totals(connection, by, first, last, client)
