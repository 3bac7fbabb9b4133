"""How long batches take now, as learned from those that ended; deadlines and polls are planned by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.policies.durations import Histogram, quantile
from carpool_worker.store import durations
from carpool_worker.units import Milliseconds


@dataclass(frozen=True, slots=True)
class DurationView:
    """How long a model's batches take that are posted in this hour of the day; times are in seconds."""

    model: str
    half_within: float
    most_within: float  # 95 %


@dataclass(frozen=True, slots=True)
class HourView:
    """How long batches took that were posted in an hour of the day (UTC); seconds. None: nothing was learned of it."""

    hour: int
    half_within: float | None
    most_within: float | None  # 95 %
    batches: float  # that count: older ones count less


@dataclass(frozen=True, slots=True)
class ModelHours:
    """How long a model's batches took in each hour of the day (UTC), from 0 to 23."""

    model: str
    hours: Sequence[HourView]


def learned(connection: sa.Connection, at: Milliseconds) -> list[DurationView]:
    """Return how long the batches of each model take that are posted at that time, by the model's name."""
    models = durations.models(connection)
    known = durations.load(connection, models)
    found = ((model, known.of(model, at)) for model in models)
    return [
        DurationView(model, half, most)
        for model, histogram in found
        if (half := quantile(histogram, 0.5)) is not None and (most := quantile(histogram, 0.95)) is not None
    ]


def by_hour(connection: sa.Connection) -> list[ModelHours]:
    """Return what was learned of each model, hour by hour, by the model's name."""
    models = durations.models(connection)
    known = durations.load(connection, models).by_hour
    return [
        ModelHours(model, [_hour(hour, known.get((model, hour), {})) for hour in range(24)])
        for model in models
    ]


def _hour(hour: int, histogram: Histogram) -> HourView:
    return HourView(hour, quantile(histogram, 0.5), quantile(histogram, 0.95), sum(histogram.values()))
