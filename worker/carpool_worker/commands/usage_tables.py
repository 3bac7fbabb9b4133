"""What `carpool usage` shows: a table with bars."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import typer
from rich import box
from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from carpool_worker.formatting import counted, dollars, short
from carpool_worker.views.usage import UsageView, together

BAR_WIDTH = 6
NAMES_WIDTH = 22
"""Characters; where a name is longer there are no bars, and each name has a line of its own."""

FAMILY = "claude-"
"""What every model's name begins with: the table leaves it out."""

UNKNOWN = "unknown"


def show(rows: Sequence[UsageView], by: Sequence[str], first: str, last: str | None) -> None:
    """Print the table, with its totals; it fits 80 columns."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not rows:
        console.print(f"Nothing was used since {first}.")
        return
    console.print(_table(rows, by, f"Usage from {first} to {last or 'today'} (UTC days)"))


def warn_of_unpriced(rows: Sequence[UsageView]) -> None:
    """Print on stderr how many requests have no known price."""
    unpriced = sum(row.unpriced for row in rows)
    if unpriced:
        models = ", ".join(sorted({row.model for row in rows if row.unpriced and row.model}))
        of = f" ({models})" if models else ""
        requests = counted(unpriced, "request")
        typer.echo(f"No price is known for {requests}{of}: no sum contains them.", err=True)


def _table(rows: Sequence[UsageView], by: Sequence[str], title: str) -> Table:
    cached = any(row.cache_read_tokens for row in rows)
    headings = ["requests", "in", "out", *(["cached"] if cached else []), "cost", "saved"]
    table = Table(title=title, box=box.SIMPLE_HEAD, show_footer=True, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(" · ".join(by), "together", min_width=NAMES_WIDTH, overflow="fold")
    for heading, cell in zip(headings, _cells(together(rows), cached), strict=True):
        table.add_column(heading, cell, justify="right", no_wrap=True)
    names = [[getattr(row, name).removeprefix(FAMILY) for name in by] for row in rows]
    bars = max(len(name) for named in names for name in named) <= NAMES_WIDTH
    if bars:
        table.add_column("", width=BAR_WIDTH)
    highest = float(max(row.cost or 0 for row in rows)) or 1.0
    for row, named in zip(rows, names, strict=True):
        bar = [Bar(highest, 0, float(row.cost or 0), width=BAR_WIDTH)] if bars else []
        table.add_row((" · " if bars else " ·\n").join(named), *_cells(row, cached), *bar)
    return table


def _cells(row: UsageView, cached: bool) -> list[str]:
    counts = [f"{row.requests:,}", short(row.prompt_tokens), short(row.output_tokens)]
    if cached:
        counts.append(f"{row.cache_read_tokens / max(row.prompt_tokens, 1):.0%}")
    return [*counts, _money(row.cost), _money(row.saved)]


def _money(amount: Decimal | None) -> str:
    return UNKNOWN if amount is None else dollars(amount)
