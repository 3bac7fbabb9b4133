"""How long batches take is learned by model and hour, and what was long ago fades."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from carpool_worker.database import read, write
from carpool_worker.models.tables import durations
from carpool_worker.store.durations import ENOUGH, expected_duration, learn
from carpool_worker.units import HOUR, SECOND, Milliseconds

MODEL = "claude-haiku-4-5"
NOON = Milliseconds(int(datetime(2026, 8, 1, 12, 30, tzinfo=UTC).timestamp()) * SECOND)
NEAR = 0.1
"""A bucket's width."""


def given_batches_took(
    engine: sa.Engine, *seconds: float, model: str = MODEL, at: Milliseconds = NOON
) -> None:
    with write(engine) as connection:
        for one in seconds:
            learn(connection, model, at, Milliseconds(int(one * SECOND)))


def expected(
    engine: sa.Engine, at: Milliseconds = NOON, share: float = 0.5, model: str = MODEL
) -> float | None:
    with read(engine) as connection:
        return expected_duration(connection, model, at, share)


def test_an_hour_expects_its_own_and_until_it_has_enough_what_the_others_learned(engine: sa.Engine) -> None:
    assert expected(engine) is None

    # When one batch has ended, Then all hours of its model expect that, and no other model
    given_batches_took(engine, 60.0)
    midnight = Milliseconds(NOON + 12 * HOUR)
    assert expected(engine) == expected(engine, midnight) == pytest.approx(60.0, rel=NEAR)
    assert expected(engine, model="claude-opus-4-5") is None

    # When an hour has enough of its own, Then the others no longer count there
    given_batches_took(engine, *[600.0] * 10, at=midnight)
    assert ENOUGH < 10
    assert expected(engine, midnight, share=0.01) == pytest.approx(600.0, rel=NEAR)
    assert expected(engine, share=0.01) == pytest.approx(60.0, rel=NEAR)


def test_quantiles_are_those_of_what_was_seen(engine: sa.Engine) -> None:
    given_batches_took(engine, *([10.0] * 9 + [100.0]))

    assert expected(engine, share=0.5) == pytest.approx(10.0, rel=NEAR)
    assert expected(engine, share=0.99) == pytest.approx(100.0, rel=NEAR)


def test_what_changed_is_learned_anew_and_takes_no_more_room(engine: sa.Engine) -> None:
    given_batches_took(engine, *[3_600.0] * 100)

    given_batches_took(engine, *[60.0] * 60)
    assert expected(engine) == pytest.approx(60.0, rel=NEAR)

    given_batches_took(engine, *[60.0] * 300)
    with read(engine) as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(durations)) == 1
