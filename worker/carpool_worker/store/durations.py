"""SQL about how long batches took: what was learned of each model in each hour of the day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.models.tables import durations
from carpool_worker.policies.durations import FADES, LEAST_WEIGHT, Histogram, bucket_of, hour_of, quantile
from carpool_worker.store.upserts import upsert
from carpool_worker.units import SECOND, Milliseconds

ENOUGH = 5.0
"""The weight from which an hour's own batches tell what to expect; before, those of all hours do."""


def learn(connection: sa.Connection, model: str, posted_at: Milliseconds, took: Milliseconds) -> None:
    """Learn how long a batch took that ended; what was learned before in its hour fades a little."""
    hour, row = hour_of(posted_at), durations.c
    of_hour = sa.and_(row.model == model, row.hour == hour)
    connection.execute(sa.update(durations).where(of_hour).values(weight=row.weight * FADES))
    connection.execute(sa.delete(durations).where(of_hour, row.weight < LEAST_WEIGHT))
    ended = {"model": model, "hour": hour, "bucket": bucket_of(took / SECOND), "weight": 1.0}
    upsert(connection, durations, [ended], add=["weight"])


@dataclass(frozen=True, slots=True)
class LearnedDurations:
    """What was learned about some models: their histograms by model and hour of the day."""

    by_hour: Mapping[tuple[str, int], Histogram]

    def of(self, model: str, at: Milliseconds) -> Histogram:
        """Return what is known about a model's batches posted `at` that time; empty if none of them ever ended."""
        own = self.by_hour.get((model, hour_of(at)), {})
        if sum(own.values()) >= ENOUGH:
            return own
        merged: defaultdict[int, float] = defaultdict(float)
        for (other, _), histogram in self.by_hour.items():
            if other == model:
                for bucket, weight in histogram.items():
                    merged[bucket] += weight
        return merged


def load(connection: sa.Connection, models: Collection[str]) -> LearnedDurations:
    """Return what was learned about these models."""
    by_hour: defaultdict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    query = sa.select(durations).where(durations.c.model.in_(models))
    for model, hour, bucket, weight in connection.execute(query) if models else ():
        by_hour[model, hour][bucket] = weight
    return LearnedDurations(by_hour)


def models(connection: sa.Connection) -> list[str]:
    """Return the models about which something was learned."""
    return list(connection.scalars(sa.select(durations.c.model).distinct().order_by(durations.c.model)))


def expected_duration(
    connection: sa.Connection, model: str, at: Milliseconds, share: float = 0.5
) -> float | None:
    """Return the seconds within which this share (0 to 1) of a model's batches end that are posted `at` that time.

    None if none of the model's batches has ended yet.
    """
    return quantile(load(connection, [model]).of(model, at), share)
