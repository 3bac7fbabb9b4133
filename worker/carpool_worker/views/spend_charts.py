"""The charts of the page on what was spent: `carpool usage --plot` draws the same into a file."""

from __future__ import annotations

from datetime import date
from typing import Any

from carpool_worker.views.chart_parts import Spec
from carpool_worker.views.chart_theme import DARK, LIGHT, config
from carpool_worker.views.spend import SpendFilter, SpendView
from carpool_worker.views.usage_chart import MOST_DAYS, SCHEMA, bars, month

Themes = dict[str, Spec]
"""The same picture for a light page and for a dark one."""


def on_page(light: Spec, dark: Spec) -> Themes:
    """Return a picture as a page shows it: as wide as there is room, with the page's own titles."""
    return {"light": _fitted(light, LIGHT), "dark": _fitted(dark, DARK)}


def days_chart(found: SpendView, wanted: SpendFilter) -> Themes:
    """Return a bar for each day, or for each month of many days."""
    rows, by_month = found.shown(wanted), is_by_month(wanted.first, wanted.last)
    light, dark = (
        bars(rows, wanted.first, wanted.last, by_month, found.budget, theme) for theme in (LIGHT, DARK)
    )
    return on_page(light, dark)


def month_chart(found: SpendView, wanted: SpendFilter) -> Themes:
    """Return the month of the last day, added up, and where it goes."""
    light, dark = (
        month(found.days, wanted.last, found.month, found.budget, theme) for theme in (LIGHT, DARK)
    )
    return on_page(light, dark)


def is_by_month(first: date, last: date) -> bool:
    """Return whether so many days are drawn by month."""
    return (last - first).days >= MOST_DAYS


def _fitted(spec: Spec, theme: Any) -> Spec:
    whole: Spec = {"$schema": SCHEMA, **spec, "width": "container"}
    whole.pop("title", None)
    look = config(theme) | {"background": "transparent", "padding": 4}
    return whole | {"autosize": {"type": "fit-x", "contains": "padding"}, "config": look}
