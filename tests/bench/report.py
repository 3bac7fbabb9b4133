"""The tables that a run prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from tests.bench.rows import Aim, PageRow, Row

MEGABYTE = 1_000_000
LEAST_SHOWN = 0.05
"""CPU µs a request, which would be printed as 0.0 below."""


def sentence(row: Row) -> str:
    """Return what is said of a stage as soon as it is measured."""
    reached = "; ".join(map(_colored, row.aims)) or f"{row.rate:,.0f}/s"
    return f"{row.name}: {reached}{f' ({row.note})' if row.note else ''}"


def table(rows: Sequence[Row]) -> Table:
    """Return the table of all rows."""
    found = Table("stage")
    for column in ("requests", "seconds", "a second", "CPU µs each", "× bare"):
        found.add_column(column, justify="right")
    found.add_column("bare: a second, what")
    found.add_column("aims")
    for row in rows:
        found.add_row(row.name, *_figures(row), _bare(row), "\n".join(map(_colored, row.aims)))
    return found


def processes(rows: Sequence[Row]) -> Table:
    """Return what each process took."""
    found = Table("stage", "CPU µs a request", "peak memory of one process (PSS), MB")
    for row in rows:
        cpu = {name: each for name, each in row.cpu_each.items() if each >= LEAST_SHOWN}
        if row.cpu or row.peaks:
            peaks = {name: peak / MEGABYTE for name, peak in row.peaks.items()}
            found.add_row(row.name, _list(cpu, ".1f"), _list(peaks, ".0f"))
    return found


def pages(rows: Sequence[Row]) -> Table:
    """Return what a look at each page took."""
    found = Table("page")
    for column in ("median, ms", "95 % within, ms", "statements", "bytes"):
        found.add_column(column, justify="right")
    for row in rows:
        if isinstance(row, PageRow):
            figures = (
                f"{row.median:,.0f}",
                f"{row.most:,.0f}",
                f"{row.statements:,.0f}",
                f"{row.page_bytes:,}",
            )
            found.add_row(row.name, *figures)
    return found


def sizes(rows: Sequence[Row]) -> Table:
    """Return what each request left in which place."""
    found = Table("stage", "bytes a request")
    for row in rows:
        if row.sizes:
            found.add_row(row.name, _list(row.sizes, ",.0f"))
    return found


def _figures(row: Row) -> list[str]:
    cpu = sum(row.cpu_each.values())
    return [
        f"{row.count:,}",
        f"{row.seconds:,.2f}",
        f"{row.rate:,.0f}",
        f"{cpu:,.1f}" if cpu else "",
        f"{row.seconds / row.bare_seconds:,.2f}" if row.bare_seconds else "",
    ]


def _bare(row: Row) -> str:
    return f"{row.count / row.bare_seconds:,.0f}: {row.bare}" if row.bare_seconds else ""


def _colored(aim: Aim) -> str:
    return f"[{'green' if aim.met else 'red'}]{aim}[/]"


def _list(figures: Mapping[str, float], form: str) -> str:
    largest = sorted(figures.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {figure:{form}}" for name, figure in largest)
