"""The chart of how long batches take by the hour of the day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carpool_worker.formatting import age
from carpool_worker.units import SECOND
from carpool_worker.views.chart_parts import Spec, colours
from carpool_worker.views.chart_theme import DARK, LIGHT
from carpool_worker.views.durations import ModelHours
from carpool_worker.views.spend_charts import Themes, on_page

HEIGHT = 220
MOST_MODELS = 4
"""Drawn in one chart."""

QUANTILES = ("half within", "95 % within")


def durations_chart(models: Sequence[ModelHours]) -> Themes:
    """Return a line for each model within which half of its batches ended, and a dashed one for 95 % of them."""
    shown = models[:MOST_MODELS]
    return on_page(_chart(shown, LIGHT), _chart(shown, DARK))


def _chart(models: Sequence[ModelHours], theme: Mapping[str, Any]) -> Spec:
    points = [
        {
            "hour": one.hour,
            "group": of.model,
            "within": words,
            "minutes": seconds / 60,
            "said": age(seconds * SECOND),
        }
        for of in models
        for one in of.hours
        for words, seconds in zip(QUANTILES, (one.half_within, one.most_within), strict=True)
        if seconds is not None
    ]
    names = [of.model for of in models]
    return {
        "height": HEIGHT,
        "data": {"values": points},
        "mark": {"type": "line", "point": {"size": 24}, "interpolate": "monotone"},
        "encoding": {
            "x": {
                "field": "hour",
                "type": "quantitative",
                "scale": {"domain": [0, 23]},
                "axis": {"title": "hour of the day, UTC, in which a batch is posted", "tickCount": 12},
            },
            "y": {
                "field": "minutes",
                "type": "quantitative",
                "axis": {"title": "minutes until it ends", "tickCount": 5},
            },
            "color": colours(names, MOST_MODELS, theme),
            "strokeDash": {
                "field": "within",
                "scale": {"domain": list(QUANTILES), "range": [[1, 0], [5, 4]]},
                "legend": None,  # the caption says which is which
            },
            "tooltip": [
                {"field": "group", "title": "model"},
                {"field": "hour"},
                {"field": "within", "title": "share"},
                {"field": "said", "title": "time"},
            ],
        },
    }
