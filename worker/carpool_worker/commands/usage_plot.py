"""`carpool usage --plot`: the cost by day, drawn with matplotlib."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from carpool_worker.exceptions import WorkerError
from carpool_worker.formatting import dollars, money
from carpool_worker.store.usage import Used
from carpool_worker.units import DOLLAR

MOST_GROUPS = 9
"""Drawn in colours of their own, the dearest ones; what remains is drawn together."""

MOST_TICKS = 31
MOST_FLAT_TICKS = 5
"""Days that are named below the bars, and how many of them fit side by side."""

REST = "all others"


def draw(rows: Sequence[Used], path: Path) -> None:
    """Draw a stacked bar for each day; `rows` are summed by day and whatever else shall have a colour.

    Raises:
        WorkerError: matplotlib is not installed, or can't write such a file.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise WorkerError("--plot needs matplotlib: pip install 'carpool[plot]'") from error
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.add_subplot()
    days = days_between(rows)
    below = [0.0] * len(days)
    stacked = stacks(rows)
    bars = []
    for costs in stacked.values():
        heights = [costs.get(day, 0) / DOLLAR for day in days]
        bars.append(axes.bar(days, heights, bottom=below))
        below = [sum(pair) for pair in zip(below, heights, strict=True)]
    axes.yaxis.set_major_formatter(lambda height, _: dollars(height))
    axes.set_title(_title(rows), parse_math=False)
    axes.tick_params(axis="x", rotation=90 if len(days) > MOST_FLAT_TICKS else 0)
    axes.set_xticks(range(0, len(days), len(days) // MOST_TICKS + 1))
    if bars:
        legend = axes.legend(bars, list(stacked), loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
        for text in legend.get_texts():
            text.set_parse_math(False)
    try:
        figure.savefig(path)
    except (ValueError, OSError) as error:
        raise WorkerError(f"--plot {path}: {error}") from error


def days_between(rows: Sequence[Used]) -> list[str]:
    """Return every day from the first to the last that has a row."""
    if not rows:
        return []
    first, last = (date.fromisoformat(edge(row.day for row in rows)) for edge in (min, max))
    return [(first + timedelta(n)).isoformat() for n in range((last - first).days + 1)]


def stacks(rows: Sequence[Used]) -> dict[str, dict[str, int]]:
    """Return picodollars by group and day: the dearest groups, then the rest."""
    totals: dict[str, int] = defaultdict(int)
    rows = [row for row in rows if row.cost]
    for row in rows:
        totals[_name(row)] += row.cost
    named = sorted(totals, key=lambda name: -totals[name])[:MOST_GROUPS]
    stacked: dict[str, dict[str, int]] = {name: defaultdict(int) for name in named}
    for row in rows:
        name = _name(row) if _name(row) in named else REST
        stacked.setdefault(name, defaultdict(int))[row.day] += row.cost
    return stacked


def _name(row: Used) -> str:
    return " · ".join(part for part in (row.client, row.model) if part) or "all"


def _title(rows: Sequence[Used]) -> str:
    cost, saved = sum(row.cost for row in rows), sum(row.saved for row in rows)
    unpriced = sum(row.unpriced for row in rows)
    without = f", without {unpriced:,} requests of unknown price" if unpriced else ""
    return f"{money(cost)} spent, {money(saved)} saved{without}"
