"""However much is due at once, each statement changes a bounded number of rows, the longest due first."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from carpool_worker.database import read, write
from carpool_worker.models.deliveries import REST
from carpool_worker.models.tables import deliveries
from carpool_worker.states import MAKE_AVAILABLE, RESCUE, DeliveryState, Transition
from carpool_worker.store.deliveries import rows, statements

NOW = 1_800_000_000_000
WAITING = 5
ROW = {
    "position": REST,
    "channel": "webhook",
    "target": "https://example.com/hook",
    "receiver": "example.com:443",
    "client": "billing",
    "attempt": 1,
    "claims": 1,
    "pending": 2,
    "delivered": 0,
}


@pytest.mark.parametrize("transition", [MAKE_AVAILABLE, RESCUE])
def test_deliveries_that_are_due_become_available_some_at_a_time(
    engine: sa.Engine, transition: Transition[DeliveryState]
) -> None:
    # Given rows that are due, the last first, and one that is not
    [source] = transition.sources
    given = [
        ROW | {"answer_id": number, "state": source, "due_at": NOW - number} for number in range(WAITING)
    ]
    with write(engine) as connection:
        connection.execute(sa.insert(deliveries), [*given, given[0] | {"answer_id": 99, "due_at": NOW + 1}])

    # When / Then
    moved = statements.MAKE_AVAILABLE[transition]
    for expected in ([4, 3], [4, 3, 2, 1], [4, 3, 2, 1, 0], [4, 3, 2, 1, 0]):
        with write(engine) as connection:
            connection.execute(moved, {"now": NOW, "step": 2})
        assert available(engine) == expected


def test_a_step_reports_how_many_deliveries_it_moved_until_none_is_left(engine: sa.Engine) -> None:
    given = [ROW | {"answer_id": number, "state": "retryable", "due_at": NOW} for number in range(WAITING)]
    with write(engine) as connection:
        connection.execute(sa.insert(deliveries), given)
        assert [rows.stage(connection, NOW), rows.stage(connection, NOW)] == [10, 0]


def test_what_waits_for_a_stopped_url_is_given_up_some_at_a_time(engine: sa.Engine) -> None:
    # Given rows for a URL, and for another one of its host
    other = {"target": "https://example.com/other"}
    given = [ROW | {"answer_id": number, "state": "available", "due_at": number} for number in range(WAITING)]
    with write(engine) as connection:
        connection.execute(
            sa.insert(deliveries), [*given, given[0] | {"answer_id": 99, "due_at": 99} | other]
        )

    # When / Then
    asked = {"host": "example.com:443", "url": ROW["target"], "reason": "410", "now": NOW, "step": 2}
    for expected in ([99, 4, 3, 2], [99, 4], [99]):
        with write(engine) as connection:
            connection.execute(statements.GIVE_UP_STOPPED, asked)
        assert available(engine) == expected


def available(engine: sa.Engine) -> list[int]:
    with read(engine) as connection:
        found = sa.select(deliveries.c.answer_id).where(deliveries.c.state == DeliveryState.AVAILABLE)
        return list(connection.scalars(found.order_by(deliveries.c.answer_id.desc())))
