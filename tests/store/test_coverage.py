"""Which delivery covers a request, when requests leave the delivery of their segment. On both databases."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.deliveries import claim_all, given_deliveries, outcome_of, webhook

from carpool_worker import database
from carpool_worker.models.tables import answers, attempts, deliveries, requests
from carpool_worker.states import DeliveryState
from carpool_worker.store.deliveries import coverage, dead_letters
from carpool_worker.store.deliveries import rows as store
from carpool_worker.store.deliveries.dead_letters import DeliveryFilter
from carpool_worker.store.deliveries.outcomes import Claimed, DeliveryOutcome, SendAttempt

DELIVERED, RETRYABLE, DISCARDED = DeliveryState.DELIVERED, DeliveryState.RETRYABLE, DeliveryState.DISCARDED


@pytest.fixture
def ids(engine: sa.Engine) -> list[str]:
    """Four requests in one segment of answers."""
    return given_deliveries(engine, *[webhook("https://billing.example.com/claude")] * 4)


def claim(engine: sa.Engine) -> Claimed:
    with database.write(engine) as connection:
        [claimed] = claim_all(connection, database.now())
    return claimed


def settle(engine: sa.Engine, **became: DeliveryState) -> None:
    """Deliver all that is due, but for positions (`_1`) that are refused or fail."""
    claimed, now = claim(engine), database.now()

    def outcome(id_: str, position: int) -> DeliveryOutcome:
        match became.get(f"_{position}"):
            case DeliveryState.RETRYABLE:
                return DeliveryOutcome.snoozed(id_, position, SendAttempt(now, status=500), now + 9, "SAID")
            case DeliveryState.DISCARDED:
                return DeliveryOutcome.given_up(id_, position, SendAttempt(now, counts=False), "SAID")
            case _:
                return DeliveryOutcome.delivered(id_, position, SendAttempt(now))

    with database.write(engine) as connection:
        store.record(connection, [outcome_of(connection, claimed, outcome)], now)


def refuse_all(engine: sa.Engine) -> None:
    settle(engine, **{f"_{position}": DISCARDED for position in range(4)})


def rows(engine: sa.Engine) -> list[Any]:
    with database.read(engine) as connection:
        return list(connection.execute(sa.select(deliveries).order_by(deliveries.c.position)))


def states(engine: sa.Engine, ids: list[str]) -> dict[str, DeliveryState]:
    with database.read(engine) as connection:
        return {one.request_id: one.state for one in coverage.of_requests(connection, ids)}


def those(engine: sa.Engine, condition: sa.ColumnElement[bool]) -> list[str]:
    with database.read(engine) as connection:
        return list(connection.scalars(sa.select(requests.c.id).where(condition).order_by(requests.c.id)))


def test_conditions_on_requests_tell_those_of_one_segment_apart(engine: sa.Engine, ids: list[str]) -> None:
    settle(engine, _1=RETRYABLE, _2=DISCARDED)

    assert those(engine, coverage.is_delivered()) == [ids[0], ids[3]]
    assert those(engine, coverage.is_undelivered()) == ids[1:3]
    assert those(engine, coverage.is_claimed()) == []


def test_what_is_claimed_is_known_to_be(engine: sa.Engine, ids: list[str]) -> None:
    claim(engine)

    assert those(engine, coverage.is_claimed()) == ids
    with database.write(engine) as connection:
        assert coverage.forget(connection, ids) == set(ids)
    assert len(states(engine, ids)) == 4


def test_forgotten_requests_have_no_delivery_and_the_others_keep_theirs(
    engine: sa.Engine, ids: list[str]
) -> None:
    # Given one of the segment, and one with a row of its own
    settle(engine, _1=RETRYABLE, _2=DISCARDED)

    # When
    with database.write(engine) as connection:
        connection.execute(
            sa.update(requests).where(requests.c.id.in_(ids[:2])).values(finished_at=None, state="batched")
        )
        assert coverage.forget(connection, ids[:2]) == set()

    # Then
    assert states(engine, ids) == {ids[2]: DISCARDED, ids[3]: DELIVERED}
    [rest] = rows(engine)
    assert (rest.delivered, rest.pending, rest.progress) == (1, 1, "xo-d")


def test_a_segment_all_of_which_was_forgotten_has_no_delivery(engine: sa.Engine, ids: list[str]) -> None:
    with database.write(engine) as connection:
        connection.execute(sa.update(requests).values(finished_at=None, state="batched"))
        coverage.forget(connection, ids)

    assert rows(engine) == []


def test_erasing_deletes_what_is_over_and_empties_what_is_due(engine: sa.Engine, ids: list[str]) -> None:
    # Given
    settle(engine, _1=RETRYABLE, _2=DISCARDED)

    # When
    with database.write(engine) as connection:
        assert coverage.erase(connection, ids) == 3

    # Then
    assert states(engine, ids) == {ids[1]: RETRYABLE}
    assert [(row.state, row.last_error) for row in rows(engine)] == [(RETRYABLE, None)]
    with database.read(engine) as connection:
        assert connection.execute(sa.select(attempts)).all() == []


def test_pruning_a_segment_keeps_its_dead_letters_each_in_a_row_of_its_own(
    engine: sa.Engine, ids: list[str]
) -> None:
    # Given
    refuse_all(engine)
    [row] = rows(engine)

    # When
    with database.write(engine) as connection:
        coverage.prune(connection, [row.answer_id])
        connection.execute(sa.delete(answers))

    # Then
    assert [(own.request_id, own.state, own.last_error) for own in rows(engine)] == [
        (id_, DISCARDED, "SAID") for id_ in ids
    ]
    with database.read(engine) as connection:
        assert dead_letters.counted(connection, DeliveryFilter()) == (0, 4)


def test_pruning_deletes_what_was_delivered(engine: sa.Engine, ids: list[str]) -> None:
    settle(engine)
    [row] = rows(engine)

    with database.write(engine) as connection:
        coverage.prune(connection, [row.answer_id])

    assert rows(engine) == []


def test_some_of_a_segment_that_was_given_up_are_replayed_by_their_ids(
    engine: sa.Engine, ids: list[str]
) -> None:
    # Given
    refuse_all(engine)

    # When
    wanted = DeliveryFilter(ids=ids[1:3])
    with database.write(engine) as connection:
        counted = dead_letters.counted(connection, wanted)
        replayed, _ = dead_letters.replay(connection, wanted, 10, 5)

    # Then
    assert (counted, replayed) == ((2, 0), 2)
    assert [state.value for state in states(engine, ids).values()] == [
        "discarded",
        "available",
        "available",
        "discarded",
    ]
    [rest, *own] = rows(engine)
    assert (rest.pending, rest.progress, [row.due_at for row in own]) == (2, "-oo-", [5, 5])


def test_a_whole_segment_is_replayed_as_one_row(engine: sa.Engine, ids: list[str]) -> None:
    refuse_all(engine)

    with database.write(engine) as connection:
        assert dead_letters.replay(connection, DeliveryFilter(client="billing"), 10, 5)[0] == 4

    assert [(row.state, row.pending) for row in rows(engine)] == [("available", 4)]


def test_the_list_goes_through_segments_request_by_request(engine: sa.Engine, ids: list[str]) -> None:
    # Given
    settle(engine, _1=RETRYABLE, _2=DISCARDED)

    def listed(state: DeliveryState | None = None, **page: Any) -> list[str]:
        with database.read(engine) as connection:
            found = dead_letters.listed(connection, DeliveryFilter(state=state), page.pop("limit", 9), **page)
            return [one.request_id for one in found]

    # When, Then: those of the segment's row first
    in_order = [ids[0], ids[2], ids[3], ids[1]]
    assert listed() == in_order
    assert listed(limit=2) == in_order[2:]
    assert listed(limit=2, before=in_order[2]) == in_order[:2]
    assert listed(limit=2, after=in_order[0]) == in_order[1:3]
    assert listed(DELIVERED) == [ids[0], ids[3]]
    assert listed(RETRYABLE) == [ids[1]]
    assert listed(DISCARDED) == [ids[2]]
