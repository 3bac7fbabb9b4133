"""How long batches take now, as learned from those that ended; deadlines and polls are planned by it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.policies.durations import quantile
from carpool_worker.store import durations
from carpool_worker.units import Milliseconds


@dataclass(frozen=True, slots=True)
class DurationView:
    """How long a model's batches take that are posted in this hour of the day; times are in seconds."""

    model: str
    half_within: float
    most_within: float  # 95 %


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
