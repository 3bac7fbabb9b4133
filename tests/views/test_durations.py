"""What batches take is shown as it was learned: on the screen, to programs and to Prometheus."""

from __future__ import annotations

import json

import pytest
from tests.fixtures.agents import MODEL, Carpool
from tests.fixtures.command_line import fits_80_columns, succeeded

from carpool_worker.database import now, read, write
from carpool_worker.metrics.batches import of_batches
from carpool_worker.metrics.readings import read_tables
from carpool_worker.settings import settings
from carpool_worker.store import durations
from carpool_worker.units import SECOND, Milliseconds
from carpool_worker.views.durations import learned

NEAR = 0.1
"""A bucket's width."""


@pytest.mark.usefixtures("command_line")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_how_long_batches_take_now_is_shown_by_model(carpool: Carpool) -> None:
    # Given batches of three models, of which one in ten takes an hour
    with write(carpool.engine) as connection:
        for model in (MODEL, "claude-opus-4-5", "claude-sonnet-4-5"):
            for number in range(20):
                seconds = 3_600 if number % 10 == 0 else 600
                durations.learn(connection, model, now(), Milliseconds(seconds * SECOND))

    # Then
    with read(carpool.engine) as connection:
        first = learned(connection, now())[0]
    assert first.model == MODEL
    assert first.half_within == pytest.approx(600, rel=NEAR)
    assert first.most_within == pytest.approx(3_600, rel=NEAR)

    shown = succeeded("status")
    assert "haiku-4-5: half within 10 min, 95 % within " in shown
    assert "2 more: --json" in shown
    assert fits_80_columns(shown)
    told = json.loads(succeeded("status", "--json"))["durations"]
    assert told[MODEL]["p50"] == pytest.approx(600, rel=NEAR)

    [family] = [
        one
        for one in of_batches(read_tables(carpool.engine, settings()), now())
        if one.name == "carpool_batches_expected_seconds"
    ]
    of_model = {one.labels["quantile"]: one.value for one in family.samples if one.labels["model"] == MODEL}
    assert of_model == {"0.5": first.half_within, "0.95": first.most_within}
