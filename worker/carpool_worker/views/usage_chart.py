"""The picture of what was spent, as a Vega-Lite specification: for a file by `carpool usage --plot`, and for a page.

Above, a bar for each day (for each month, if there are many days), by whatever the rows are summed by; the pale part
at its top is what the same tokens cost outside a batch, so it is what was saved. Below, the month of the last day: what
it has cost so far, and what it will have cost at its end. Dashed lines are budgets.
"""

from __future__ import annotations

from calendar import monthrange
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from carpool_worker.formatting import dollars
from carpool_worker.policies.budgets import Budget
from carpool_worker.store.reports.spend import REST
from carpool_worker.views.chart_parts import (
    Spec,
    colours,
    days_axis,
    days_between,
    dollars_axis,
    limit,
    periods_axis,
    tooltip,
)
from carpool_worker.views.chart_theme import DARK, LIGHT, config
from carpool_worker.views.forecast import Forecast, forecast
from carpool_worker.views.usage import UsageView
from carpool_worker.views.usage_captions import subtitles, title

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
MOST_GROUPS = 8
"""Drawn in colours of their own, the most expensive ones; the others are drawn as one."""

MOST_DAYS = 62
"""More days than these are drawn by month."""

WIDTH, HEIGHT = 860, 280
MONTH_HEIGHT = 150


def usage_chart(
    rows: Sequence[UsageView],
    first: date,
    last: date,
    today: date,
    budget: Budget | None = None,
    *,
    dark: bool = False,
) -> Spec:
    """Return the picture of these rows, which are summed by day and by whatever gets a colour of its own.

    They include the month of `last` and DAYS_LOOKED_AT days before it, for its forecast; drawn above are the days from
    `first` to `last`. `budget` is whose limits are drawn.
    """
    shown = [row for row in rows if first.isoformat() <= row.day <= last.isoformat()]
    by_month = (last - first).days >= MOST_DAYS
    theme = DARK if dark else LIGHT
    above = bars(shown, first, last, by_month, budget, theme)
    parts = [above]
    ahead = forecast(_sums(rows), last) if last == today else None
    if not by_month:
        parts.append(month(rows, last, ahead, budget, theme))
    return {
        "$schema": SCHEMA,
        "title": {"text": title(first, last), "subtitle": subtitles(shown, ahead, budget)},
        "vconcat": parts,
        "spacing": 28,
        "resolve": {"legend": {"color": "independent"}},
        "config": config(theme),
    }


def stacks(rows: Sequence[UsageView]) -> dict[str, Mapping[str, Decimal]]:
    """Return dollars by group and day: the most expensive groups, then the rest as one."""
    costs: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for row in rows:
        if row.cost:
            costs[_name(row)][row.day] += row.cost
    ordered = sorted(costs, key=lambda name: (name == REST, -sum(costs[name].values())))
    stacked: dict[str, Mapping[str, Decimal]] = {name: costs[name] for name in ordered[:MOST_GROUPS]}
    if (others := ordered[MOST_GROUPS:]) or REST in costs:
        stacked.pop(REST, None)
        others = others or [REST]
        days = {day for name in others for day in costs[name]}
        stacked[REST] = {day: sum((costs[name][day] for name in others), Decimal(0)) for day in days}
    return stacked


def bars(
    rows: Sequence[UsageView],
    first: date,
    last: date,
    by_month: bool,
    budget: Budget | None,
    theme: Mapping[str, Any],
) -> Spec:
    """Return a bar for each day from `first` to `last`, or for each of their months; the rows are of these days."""
    periods = list(dict.fromkeys(_period(day.isoformat(), by_month) for day in days_between(first, last)))
    rows = [replace(row, day=_period(row.day, by_month)) for row in rows]
    stacked, listed = stacks(rows), _sums(rows, "list_price")
    spent = [
        {"period": period, "group": name, "place": place, "cost": float(cost)}
        for place, (name, costs) in enumerate(stacked.items())
        for period, cost in sorted(costs.items())
    ]
    x, y = periods_axis(periods, by_month), dollars_axis(max(listed.values(), default=Decimal(0)))
    layers: list[Spec] = [
        {
            "data": {"values": [{"period": one, "cost": float(listed.get(one, 0))} for one in periods]},
            "mark": {"type": "bar", "cornerRadiusEnd": 3, "color": theme["saved"]},
            "encoding": {"x": x, "y": y, "tooltip": tooltip("period", "list price")},
        },
        {
            "data": {"values": spent},
            "mark": {"type": "bar"},
            "encoding": {
                "x": x,
                "y": {**y, "stack": "zero"},
                "order": {"field": "place"},
                "color": colours(list(stacked), MOST_GROUPS, theme),
                "tooltip": [{"field": "group"}, *tooltip("period", "cost")],
            },
        },
    ]
    if most := budget and (budget.month if by_month else budget.day):
        layers += limit(most, "month" if by_month else "day", theme)
    return {"width": WIDTH, "height": HEIGHT, "layer": layers}


def month(
    rows: Sequence[UsageView],
    last: date,
    ahead: Forecast | None,
    budget: Budget | None,
    theme: Mapping[str, Any],
) -> Spec:
    """Return the month of `last`, added up, with what is `ahead` of it."""
    begin = last.replace(day=1)
    end = last.replace(day=monthrange(last.year, last.month)[1])
    so_far, sums = Decimal(0), _sums(rows)
    points = []
    for day in days_between(begin, last):
        so_far += sums.get(day.isoformat(), Decimal(0))
        points.append({"day": day.isoformat(), "cost": float(so_far)})
    x, y = days_axis(begin, end), dollars_axis(max(so_far, ahead.at_end if ahead else so_far))
    layers: list[Spec] = [
        {
            "data": {"values": points},
            "mark": {
                "type": "area",
                "line": {"color": theme["line"]},
                "color": theme["area"],
                "interpolate": "monotone",
            },
            "encoding": {"x": x, "y": y, "tooltip": tooltip("day", "so far")},
        }
    ]
    if ahead and end > last:
        to_end = [points[-1], {"day": end.isoformat(), "cost": float(ahead.at_end)}]
        said = [{**to_end[1], "words": f"{dollars(ahead.at_end)} on {end:%-d %B}, if it goes on like this"}]
        layers += [
            {
                "data": {"values": to_end},
                "mark": {
                    "type": "line",
                    "strokeDash": [4, 4],
                    "color": theme["line"],
                    "point": {"color": theme["line"]},
                },
                "encoding": {"x": x, "y": y},
            },
            {
                "data": {"values": said},
                "mark": {
                    "type": "text",
                    "align": "right",
                    "baseline": "bottom",
                    "dx": -6,
                    "dy": -6,
                    "color": theme["text"],
                },
                "encoding": {"x": x, "y": y, "text": {"field": "words"}},
            },
        ]
    if budget and budget.month:
        layers += limit(budget.month, "month", theme)
    words = f"{last:%B %Y} so far" if ahead else f"{last:%B %Y}, added up"
    return {
        "title": {"text": words, "frame": "group", "fontSize": 14},
        "width": WIDTH,
        "height": MONTH_HEIGHT,
        "layer": layers,
    }


def _sums(rows: Sequence[UsageView], measure: str = "cost") -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        sums[row.day] += getattr(row, measure) or 0
    return sums


def _period(day: str, by_month: bool) -> str:
    return f"{day[:7]}-01" if by_month else day


def _name(row: UsageView) -> str:
    return " · ".join(part for part in (row.client, row.key, row.model, row.account) if part) or "all"
