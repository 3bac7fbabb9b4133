"""`carpool usage --plot`: the cost by day, drawn with matplotlib."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carpool_worker.exceptions import WorkerError
from carpool_worker.formatting import counted, dollars
from carpool_worker.views.usage import UsageView, together

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_GROUPS = 9
"""Drawn in colours of their own, the most expensive ones; the others are drawn as one."""

MOST_TICKS = 31
MOST_FLAT_TICKS = 5
"""Days that are named below the bars, and how many of them fit side by side."""

REST = "all others"


def draw(rows: Sequence[UsageView], path: Path) -> None:
    """Draw a stacked bar for each day; `rows` are summed by day, and by whatever gets a colour of its own.

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
    _draw_bars(axes, days, stacks(rows))
    axes.set_title(_title(rows), parse_math=False)
    axes.yaxis.set_major_formatter(lambda height, _: dollars(height))
    axes.tick_params(axis="x", rotation=90 if len(days) > MOST_FLAT_TICKS else 0)
    axes.set_xticks(range(0, len(days), len(days) // MOST_TICKS + 1))
    try:
        figure.savefig(path)
    except (ValueError, OSError) as error:
        raise WorkerError(f"--plot {path}: {error}") from error


def days_between(rows: Sequence[UsageView]) -> list[str]:
    """Return every day from the first to the last that has a row."""
    if not rows:
        return []
    first, last = (date.fromisoformat(edge(row.day for row in rows)) for edge in (min, max))
    return [(first + timedelta(n)).isoformat() for n in range((last - first).days + 1)]


def stacks(rows: Sequence[UsageView]) -> dict[str, Mapping[str, Decimal]]:
    """Return dollars by group and day: the most expensive groups, then the rest as one."""
    costs: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for row in rows:
        if row.cost:
            costs[_name(row)][row.day] += row.cost
    ordered = sorted(costs, key=lambda name: -sum(costs[name].values()))
    stacked: dict[str, Mapping[str, Decimal]] = {name: costs[name] for name in ordered[:MOST_GROUPS]}
    if others := ordered[MOST_GROUPS:]:
        days = {day for name in others for day in costs[name]}
        stacked[REST] = {day: sum((costs[name][day] for name in others), Decimal(0)) for day in days}
    return stacked


def _draw_bars(axes: Axes, days: Sequence[str], stacked: Mapping[str, Mapping[str, Decimal]]) -> None:
    below = [0.0] * len(days)
    bars: list[Any] = []
    for costs in stacked.values():
        heights = [float(costs.get(day, 0)) for day in days]
        bars.append(axes.bar(days, heights, bottom=below))
        below = [sum(pair) for pair in zip(below, heights, strict=True)]
    if bars:
        legend = axes.legend(bars, list(stacked), loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
        for text in legend.get_texts():
            text.set_parse_math(False)


def _name(row: UsageView) -> str:
    return " · ".join(part for part in (row.client, row.key, row.model) if part) or "all"


def _title(rows: Sequence[UsageView]) -> str:
    total = together(rows)
    unpriced = counted(total.unpriced, "request")
    without = f", without {unpriced} of unknown price" if total.unpriced else ""
    return f"{dollars(total.cost or 0)} spent, {dollars(total.saved or 0)} saved{without}"
