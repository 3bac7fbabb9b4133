"""How commands print what views return: as a table that fits a terminal, or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from textwrap import TextWrapper
from typing import Any

import typer

GAP = 2
"""Spaces between two columns."""

INDENTED = "  "

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


def print_table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print rows of texts. Only the last column is folded, between words.

    Where one of its names has no room beside the others, all of it stands below them, so that it can be copied whole.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    *others, last = columns
    beside = zip(others, *(line[:-1] for line in lines), strict=True)
    widths = [max(map(len, column)) + GAP for column in beside]
    longest = max((len(word) for line in lines for word in line[-1].split()), default=0)
    if sum(widths) + longest > console.width:
        fits = sum(widths) + len(last) <= console.width
        typer.echo("".join(map(str.ljust, others, widths)) + (last if fits else f"\n{INDENTED}{last}"))
        below = TextWrapper(console.width, INDENTED, INDENTED, break_long_words=False, break_on_hyphens=False)
        for line in lines:
            typer.echo("".join(map(str.ljust, line, widths)).rstrip())
            for paragraph in line[-1].splitlines():
                typer.echo(below.fill(paragraph))
        return
    table = Table(box=None, pad_edge=False)
    for column in others:
        table.add_column(column, no_wrap=True)
    table.add_column(last, overflow="fold")
    for line in lines:
        table.add_row(*(Text(text) for text in line))
    console.print(table)


def print_story(story: Iterable[tuple[int, str]]) -> None:
    """Print what happened, a line each: when, in UTC, and what."""
    from carpool_worker.formatting import time_of

    for at, words in story:
        typer.echo(f"{time_of(at)}  {words}")


def time_or_absent(at: int | None) -> str:
    """Return a time in UTC for a column."""
    from carpool_worker.formatting import time_of

    return ABSENT if at is None else time_of(at)
