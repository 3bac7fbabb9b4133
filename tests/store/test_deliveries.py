"""Deliveries in SQL, on both databases: claimed once, recorded once, never lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import sqlalchemy as sa
from tests.fixtures.deliveries import completed_request
from tests.fixtures.segments import insert_requests

from carpool_worker import database
from carpool_worker.models import tables
from carpool_worker.states import DeliveryState
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.deliveries.rows import Claimed, DeliveryOutcome, SendAttempt

NOW = 1_800_000_000_000
LEASE = 30_000
CALLBACK = '{"kind":"webhook","url":"https://billing.example.com/claude"}'


def given_deliveries(engine: sa.Engine, count: int, callback: str = CALLBACK) -> list[str]:
    ids = [f"{number:032x}" for number in range(count)]
    with database.write(engine) as connection:
        rows = [completed_request(id_, NOW, callback=callback) for id_ in ids]
        insert_requests(connection, rows)
        deliveries.insert(connection, [(id_, callback) for id_ in ids], NOW)
    return ids


def claim(engine: sa.Engine, limit: int = 1_000, now: int = NOW) -> list[Claimed]:
    with database.write(engine) as connection:
        return deliveries.claim(connection, limit, LEASE, now)


def record(engine: sa.Engine, *outcomes: DeliveryOutcome, now: int = NOW) -> None:
    with database.write(engine) as connection:
        deliveries.record(connection, outcomes, now)


def rows(engine: sa.Engine, table: sa.Table) -> list[Any]:
    with database.read(engine) as connection:
        return list(connection.execute(sa.select(table)))


def delivered(claimed: Claimed, **fields: Any) -> DeliveryOutcome:
    return DeliveryOutcome.delivered(claimed, SendAttempt(NOW, **fields))


def test_claim_returns_what_a_channel_needs(engine: sa.Engine) -> None:
    # Given
    task = '{"kind":"task","name":"billing.on_answer","queue":"billing"}'
    [id_] = given_deliveries(engine, 1, task)

    # When
    claimed = claim(engine)

    # Then
    assert claimed == [Claimed(id_, "task", "billing.on_answer", 1, 1, task)]


def test_a_second_insert_changes_nothing(engine: sa.Engine) -> None:
    # Given
    [id_] = given_deliveries(engine, 1)
    record(engine, delivered(*claim(engine)))

    # When
    with database.write(engine) as connection:
        deliveries.insert(connection, [(id_, CALLBACK)], NOW + 5)

    # Then
    [row] = rows(engine, tables.deliveries)
    assert (row.state, row.due_at) == (DeliveryState.DELIVERED, NOW)


def test_two_couriers_at_once_never_get_the_same_delivery(engine: sa.Engine) -> None:
    # Given
    ids = given_deliveries(engine, 300)

    # When
    with ThreadPoolExecutor(4) as couriers:
        chunks = list(couriers.map(lambda _: claim(engine, limit=30), range(12)))

    # Then
    taken = [claimed.request_id for chunk in chunks for claimed in chunk]
    assert len(taken) == len(set(taken))
    assert set(taken) | {claimed.request_id for claimed in claim(engine)} == set(ids)


def test_claim_takes_the_oldest_first_and_no_more_than_the_limit(engine: sa.Engine) -> None:
    # Given
    ids = given_deliveries(engine, 3)
    with database.write(engine) as connection:
        late = (
            sa.update(tables.deliveries)
            .where(tables.deliveries.c.request_id == ids[0])
            .values(due_at=NOW + 9)
        )
        connection.execute(late)

    # When
    claimed = claim(engine, limit=2)

    # Then
    assert {one.request_id for one in claimed} == set(ids[1:])


def test_outcomes_are_recorded_with_their_tries(engine: sa.Engine) -> None:
    # Given
    given_deliveries(engine, 3)
    first, second, third = claim(engine)
    later = DeliveryOutcome.snoozed(second, SendAttempt(NOW, status=500), NOW + 5_000, "answered 500")
    never = DeliveryOutcome.given_up(third, SendAttempt(NOW, status=410, detail="no"), "gone")

    # When
    record(engine, delivered(first, status=200, milliseconds=12, detail="ok"), later, never)

    # Then
    by_id = {row.request_id: row for row in rows(engine, tables.deliveries)}
    assert by_id[first.request_id].delivered_at == NOW
    assert by_id[second.request_id].due_at == NOW + 5_000
    assert by_id[second.request_id].last_error == "answered 500"
    assert by_id[third.request_id].discarded_at == NOW
    assert {(row.request_id, row.attempt, row.status) for row in rows(engine, tables.attempts)} == {
        (first.request_id, 1, 200),
        (second.request_id, 1, 500),
        (third.request_id, 1, 410),
    }


def test_what_was_not_tried_does_not_count_as_a_try(engine: sa.Engine) -> None:
    # Given
    given_deliveries(engine, 1)
    [claimed] = claim(engine)

    # When
    record(engine, DeliveryOutcome.snoozed(claimed, SendAttempt(NOW, counts=False), NOW, "wait"))

    # Then
    [row] = rows(engine, tables.deliveries)
    assert row.attempt == 0
    assert rows(engine, tables.attempts) == []


def test_a_courier_whose_lease_ended_changes_nothing_of_a_newer_claim(engine: sa.Engine) -> None:
    # Given
    given_deliveries(engine, 1)
    [stale] = claim(engine)
    with database.write(engine) as connection:
        assert deliveries.rescue(connection, NOW + LEASE) == 1
    [newer] = claim(engine, now=NOW + LEASE)

    # When
    record(engine, delivered(stale))

    # Then
    [row] = rows(engine, tables.deliveries)
    assert row.state is DeliveryState.DELIVERING
    record(engine, delivered(newer))
    [row] = rows(engine, tables.deliveries)
    assert row.state is DeliveryState.DELIVERED


def test_a_lease_that_has_not_ended_is_respected(engine: sa.Engine) -> None:
    # Given
    given_deliveries(engine, 1)
    claim(engine)

    # When
    with database.write(engine) as connection:
        rescued = deliveries.rescue(connection, NOW + LEASE - 1)

    # Then
    assert rescued == 0
    assert claim(engine, now=NOW + LEASE - 1) == []


def test_retryable_deliveries_are_staged_when_due_and_not_before(engine: sa.Engine) -> None:
    # Given
    given_deliveries(engine, 1)
    [claimed] = claim(engine)
    record(engine, DeliveryOutcome.snoozed(claimed, SendAttempt(NOW), NOW + 5_000, "no"))

    # When
    with database.write(engine) as connection:
        early, none = deliveries.stage(connection, NOW + 4_999), deliveries.due(connection, NOW + 4_999)
        one, staged = deliveries.due(connection, NOW + 5_000), deliveries.stage(connection, NOW + 5_000)

    # Then
    assert (early, none, one, staged) == (0, 0, 1, 1)
    assert [again.attempt for again in claim(engine)] == [2]


def test_a_courier_that_dies_costs_no_try(engine: sa.Engine) -> None:
    # Given
    given_deliveries(engine, 1)

    # When
    for crash in range(12):
        claim(engine, now=NOW + crash * LEASE)
        with database.write(engine) as connection:
            assert deliveries.rescue(connection, NOW + (crash + 1) * LEASE) == 1

    # Then
    [claimed] = claim(engine)
    assert (claimed.attempt, claimed.claim) == (1, 13)
    record(engine, DeliveryOutcome.snoozed(claimed, SendAttempt(NOW, status=500), NOW, "answered 500"))
    assert [row.attempt for row in rows(engine, tables.deliveries)] == [1]
    assert [row.attempt for row in rows(engine, tables.attempts)] == [1]
