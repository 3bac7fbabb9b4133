"""What `carpool usage` shows: a table with bars, CSV or JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import msgspec
import typer
from rich import box
from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from carpool_worker.formatting import exact, money, short
from carpool_worker.store.usage import Used

TOKENS = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens")
MONEY = ("cost", "list_price", "saved")
MEASURES = ("requests", *TOKENS, *MONEY)

BAR_WIDTH = 6
NAMES_WIDTH = 22
"""Characters; longer names take a second line."""

FAMILY = "claude-"
"""What every model's name begins with: the table leaves it out."""

UNKNOWN = "unknown"


def to_json(rows: Sequence[Used], by: Sequence[str]) -> str:
    """Return a list of objects: the dimensions, then MEASURES; dollars are numbers with all their digits."""
    encoder = msgspec.json.Encoder(decimal_format="number")
    lines = (encoder.encode(_record(row, by)).decode() for row in rows)
    return f"[{', '.join(lines)}]" if not rows else "[\n " + ",\n ".join(lines) + "\n]"


def to_csv(rows: Sequence[Used], by: Sequence[str]) -> str:
    """Return CSV with a line of names: the dimensions, then MEASURES."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*by, *MEASURES], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_record(row, by) for row in rows)
    return text.getvalue()


def _record(row: Used, by: Sequence[str]) -> dict[str, Any]:
    named = {name: getattr(row, name) for name in (*by, "requests", *TOKENS)}
    return named | {name: exact(getattr(row, name)) if row.is_priced else None for name in MONEY}


def show(rows: Sequence[Used], by: Sequence[str], first: str, last: str | None) -> None:
    """Print the table, with its totals; it fits 80 columns."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not rows:
        console.print(f"Nothing was used since {first}.")
        return
    console.print(_table(rows, by, f"Usage from {first} to {last or 'today'} (UTC days)"))


def _table(rows: Sequence[Used], by: Sequence[str], title: str) -> Table:
    cached = any(row.cache_read_tokens for row in rows)
    headings = ["requests", "in", "out", *(["cached"] if cached else []), "cost", "saved"]
    table = Table(title=title, box=box.SIMPLE_HEAD, show_footer=True, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(" · ".join(by), "together", min_width=NAMES_WIDTH, overflow="fold")
    for heading, cell in zip(headings, _cells(_sum(rows), cached), strict=True):
        table.add_column(heading, cell, justify="right", no_wrap=True)
    table.add_column("", width=BAR_WIDTH)
    dearest = max(row.cost for row in rows) or 1
    for row in rows:
        names = " · ".join(getattr(row, name).removeprefix(FAMILY) for name in by)
        table.add_row(names, *_cells(row, cached), Bar(dearest, 0, row.cost, width=BAR_WIDTH))
    return table


def _sum(rows: Sequence[Used]) -> Used:
    total = Used("", "", "")
    for row in rows:
        for name in ("requests", *TOKENS, "unpriced", "cost", "list_price"):
            setattr(total, name, getattr(total, name) + getattr(row, name))
    return total


def _cells(row: Used, cached: bool) -> list[str]:
    prompt = row.input_tokens + row.cache_write_tokens + row.cache_read_tokens
    counts = [f"{row.requests:,}", short(prompt), short(row.output_tokens)]
    if cached:
        counts.append(f"{row.cache_read_tokens / max(prompt, 1):.0%}")
    return [*counts, *(money(amount) if row.is_priced else UNKNOWN for amount in (row.cost, row.saved))]


def warn_of_unpriced(rows: Sequence[Used]) -> None:
    """Say on stderr how many requests have no known price."""
    unpriced = sum(row.unpriced for row in rows)
    if unpriced:
        models = ", ".join(sorted({row.model for row in rows if row.unpriced and row.model}))
        of = f" ({models})" if models else ""
        typer.echo(f"No price is known for {unpriced:,} requests{of}: no sum contains them.", err=True)
