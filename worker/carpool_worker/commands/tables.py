"""How commands print rows: as a table that fits a terminal, or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer


def print_json(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a JSON object a line."""
    for row in rows:
        typer.echo(json.dumps(row))


def print_table(columns: Sequence[str], lines: Sequence[Sequence[str]], whole: int) -> None:
    """Print rows of texts; the first `whole` columns are never folded."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number < whole, overflow="fold")
    for line in lines:
        table.add_row(*(Text(text) for text in line))
    Console().print(table)


def time_of(milliseconds: int | None) -> str | None:
    """Return a time of the tables as text in UTC."""
    from carpool_worker import formatting

    return None if milliseconds is None else formatting.time_of(milliseconds)
