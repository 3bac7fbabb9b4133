"""The doctor on paused lanes."""

from __future__ import annotations

from tests.fixtures.doctor import Doctor

from carpool_worker.database import now, open_engine, write
from carpool_worker.store.batches import lane_pauses
from carpool_worker.units import HOUR


def test_a_lane_that_carpool_paused_is_wrong_and_one_that_an_operator_paused_is_a_reminder(
    doctor: Doctor, sqlite_url: str
) -> None:
    # Given no paused lane, Then nothing is said of lanes
    assert not [one for one in doctor() if one["check"] == "lanes"]

    # Given a lane of each
    engine, at = open_engine(sqlite_url), now()
    with write(engine) as connection:
        lane_pauses.pause_by_operator(
            connection, "claude-haiku-4-5 account=two", "until Monday", at - 3 * HOUR
        )
        lane_pauses.pause(connection, "claude-opus-5", "402 credit balance too low", at - 3 * HOUR, at)
    engine.dispose()

    # Then each is found with its reason
    mine = doctor.finds("lanes", "warning", "paused by an operator for 3 h: until Monday")
    assert mine.mend == "when it may go on: carpool resume 'claude-haiku-4-5 account=two'"
    doctor.finds("lanes", "wrong", "claude-opus-5 has been paused for 3 h: 402 credit balance too low")
