"""Parts of charts that several have: axes of time and of dollars, colours, the line of a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from carpool_worker.formatting import dollars

MOST_LABELS = 16
"""Days or months that are named below the bars, as many as fit side by side."""

Spec = dict[str, Any]
"""A piece of Vega-Lite."""


def days_between(first: date, last: date) -> list[date]:
    """Return every day from the first to the last."""
    return [first + timedelta(n) for n in range((last - first).days + 1)]


def periods_axis(periods: Sequence[str], by_month: bool) -> Spec:
    """Return the axis of bars for these periods, each by its first day, as 2026-11-22."""
    step = max(1, -(-len(periods) // MOST_LABELS))
    label = f"utcFormat(toDate(datum.value), '{'%b %Y' if by_month else '%-d %b'}')"
    axis = {"title": None, "labelExpr": label, "labelAngle": 0, "values": list(periods[::step])}
    padding = 0.15 if len(periods) > MOST_LABELS else 0.35
    scale = {"domain": list(periods), "paddingInner": padding}
    return {"field": "period", "type": "ordinal", "scale": scale, "axis": axis}


def days_axis(begin: date, end: date) -> Spec:
    """Return the axis of lines from one day to another."""
    days = [day.isoformat() for day in days_between(begin, end)]
    label = "utcFormat(datum.value, '%-d %b')"
    values = [{"expr": f"toDate('{day}')"} for day in days[:: max(1, -(-len(days) // MOST_LABELS))]]
    scale = {"type": "utc", "domain": [{"expr": f"toDate('{day}')"} for day in (days[0], days[-1])]}
    return {
        "field": "day",
        "type": "temporal",
        "scale": scale,
        "axis": {"title": None, "labelExpr": label, "labelAngle": 0, "labelFlush": False, "values": values},
    }


def dollars_axis(highest: Decimal) -> Spec:
    """Return the axis of `cost`, with as many digits as the highest needs."""
    steps = ((Decimal(10), ",.0f"), (Decimal("0.05"), ",.2f"), (Decimal("0.002"), ",.4f"))
    digits = next((digits for least, digits in steps if highest >= least), ",.6f")
    axis = {"title": None, "format": f"${digits}", "tickCount": 5}
    return {"field": "cost", "type": "quantitative", "axis": axis, "stack": None}


def tooltip(when: str, title: str) -> list[Spec]:
    """Return what a page shows of a bar or a point that is pointed at."""
    return [
        {"field": when, "type": "nominal"},
        {"field": "cost", "type": "quantitative", "title": title, "format": "$,.4f"},
    ]


def colours(names: Sequence[str], most: int, theme: Mapping[str, Any]) -> Spec:
    """Return the colours of these groups, the last of which may be the rest."""
    palette = [*theme["palette"][: min(len(names), most)], theme["rest"]][: len(names)]
    legend = {"title": None, "orient": "bottom", "columns": 3, "labelLimit": 280, "symbolType": "square"}
    return {
        "field": "group",
        "type": "nominal",
        "scale": {"domain": names, "range": palette},
        "legend": legend if len(names) > 1 else None,
    }


def limit(limit: Decimal, period: str, theme: Mapping[str, Any]) -> list[Spec]:
    """Return the line of a budget, with its words."""
    data = {"values": [{"cost": float(limit), "words": f"budget: {dollars(limit)} a {period}"}]}
    y = {"field": "cost", "type": "quantitative"}
    return [
        {
            "data": data,
            "mark": {"type": "rule", "strokeDash": [6, 4], "size": 1.5, "color": theme["limit"]},
            "encoding": {"y": y},
        },
        {
            "data": data,
            "mark": {
                "type": "text",
                "align": "left",
                "baseline": "bottom",
                "dx": 4,
                "dy": -3,
                "color": theme["limit"],
            },
            "encoding": {"y": y, "x": {"value": 0}, "text": {"field": "words"}},
        },
    ]
