"""The last day by hour: how many requests were answered, and how long that took; as values and as charts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from carpool_worker.store.reports.last_day import EndedInHour, ended_since
from carpool_worker.units import DAY, HOUR, Milliseconds
from carpool_worker.views.chart_parts import Spec
from carpool_worker.views.chart_theme import DARK, LIGHT, config

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
HEIGHT = 170
HALF, MOST = 0.5, 0.95


@dataclass(frozen=True, slots=True)
class HourOfDay:
    """What ended in an hour; the times are seconds within which half and 95 % of it were answered."""

    at: Milliseconds  # when the hour began
    succeeded: int = 0
    failed: int = 0
    half_within: float | None = None
    most_within: float | None = None


def last_day(connection: sa.Connection, now: Milliseconds) -> list[HourOfDay]:
    """Return the last 24 hours that have begun, the oldest first."""
    first = now // HOUR - DAY // HOUR + 1
    by_hour: defaultdict[int, list[EndedInHour]] = defaultdict(list)
    for ended in ended_since(connection, Milliseconds(first * HOUR)):
        by_hour[ended.hour].append(ended)
    return [_hour(hour, by_hour[hour]) for hour in range(first, now // HOUR + 1)]


def throughput_chart(hours: Sequence[HourOfDay]) -> dict[str, Spec]:
    """Return a bar an hour, of what succeeded and what failed, light and dark."""
    values = [
        {"hour": one.at, "requests": count, "outcome": outcome}
        for one in hours
        for outcome, count in (("succeeded", one.succeeded), ("failed", one.failed))
    ]
    return {name: _bars(values, theme) for name, theme in (("light", LIGHT), ("dark", DARK))}


def answer_times_chart(hours: Sequence[HourOfDay]) -> dict[str, Spec]:
    """Return a line for half and one for 95 % of the answers, light and dark."""
    values = [
        {"hour": one.at, "minutes": seconds / 60, "share": share}
        for one in hours
        for share, seconds in (("half", one.half_within), ("95 %", one.most_within))
        if seconds is not None
    ]
    # All of the day, also where nothing ended. Expressions: from numbers, Vega-Lite makes calls of datetime(), and the
    # interpreter that pages use (charts.js) takes those numbers for years.
    domain = [{"expr": f"toDate({one.at})"} for one in (hours[0], hours[-1])]
    return {name: _lines(values, domain, theme) for name, theme in (("light", LIGHT), ("dark", DARK))}


def _hour(hour: int, ended: Sequence[EndedInHour]) -> HourOfDay:
    at = Milliseconds(hour * HOUR)
    succeeded, failed = sum(one.succeeded for one in ended), sum(one.failed for one in ended)
    return HourOfDay(at, succeeded, failed, _within(ended, HALF), _within(ended, MOST))


def _within(ended: Sequence[EndedInHour], share: float) -> float | None:
    ordered = sorted(ended, key=lambda one: one.seconds)
    needed = share * sum(one.succeeded + one.failed for one in ordered)
    passed = 0
    for one in ordered:
        passed += one.succeeded + one.failed
        if passed and passed >= needed:
            return float(one.seconds)
    return None


def _bars(values: Sequence[Mapping[str, Any]], theme: Mapping[str, Any]) -> Spec:
    colour = _colour(["succeeded", "failed"], [theme["line"], theme["limit"]])
    y = {"field": "requests", "type": "quantitative", "axis": {"title": None, "format": "~s", "tickCount": 4}}
    number = {"field": "requests", "type": "quantitative", "format": ","}
    tooltip = [_when("from"), {"field": "outcome", "type": "nominal"}, number]
    bar = {"type": "bar", "width": {"band": 0.75}}
    unit = {"timeUnit": "utcyearmonthdatehours"}
    return _chart(values, theme, bar, {"x": _hours() | unit, "y": y, "color": colour, "tooltip": tooltip})


def _lines(values: Sequence[Mapping[str, Any]], domain: Sequence[Spec], theme: Mapping[str, Any]) -> Spec:
    colour = _colour(["half", "95 %"], [theme["line"], theme["palette"][1]])
    y = {"field": "minutes", "type": "quantitative", "axis": {"title": "minutes", "tickCount": 4}}
    number = {"field": "minutes", "type": "quantitative", "format": ",.1f"}
    tooltip = [_when("hour"), {"field": "share", "type": "nominal", "title": "answered"}, number]
    line = {"type": "line", "point": {"size": 36}, "strokeWidth": 2}
    x = _hours() | {"scale": {"type": "utc", "domain": domain}}
    return _chart(values, theme, line, {"x": x, "y": y, "color": colour, "tooltip": tooltip})


def _chart(values: Sequence[Mapping[str, Any]], theme: Mapping[str, Any], mark: Spec, encoding: Spec) -> Spec:
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": HEIGHT,
        "data": {"values": list(values)},
        "mark": mark,
        "encoding": encoding,
        "config": {**config(theme), "padding": 0},
    }


def _hours() -> Spec:
    axis = {"title": None, "format": "%H:%M", "tickCount": 8, "labelFlush": False}
    return {"field": "hour", "type": "temporal", "scale": {"type": "utc"}, "axis": axis}


def _when(title: str) -> Spec:
    return {"field": "hour", "type": "temporal", "title": title, "format": "%d %b %H:%M UTC"}


def _colour(domain: Sequence[str], colours: Sequence[str]) -> Spec:
    legend = {"title": None, "orient": "top", "symbolType": "square", "offset": 4}
    return {
        "field": "share" if "half" in domain else "outcome",
        "type": "nominal",
        "scale": {"domain": list(domain), "range": list(colours)},
        "legend": legend,
    }
