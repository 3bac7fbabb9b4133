"""How commands print what views return: as a table that fits a terminal, or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import typer

ABSENT = "-"
"""Printed for what there is none of, or is not known."""


def print_json(views: Iterable[Any]) -> None:
    """Print a JSON object a line."""
    for view in views:
        print_json_object(view)


def print_json_object(view: Any) -> None:
    """Print one JSON object."""
    from carpool_worker.views.encoding import plain

    typer.echo(json.dumps(plain(view)))


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


def print_story(story: Iterable[tuple[int, str]]) -> None:
    """Print what happened, a line each: when, in UTC, and what."""
    from carpool_worker.formatting import time_of

    for at, words in story:
        typer.echo(f"{time_of(at)}  {words}")


def time_or_absent(at: int | None) -> str:
    """Return a time in UTC for a column."""
    from carpool_worker.formatting import time_of

    return ABSENT if at is None else time_of(at)
