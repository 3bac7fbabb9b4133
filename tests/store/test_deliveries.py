"""Deliveries in SQL, on both databases: claimed once, recorded once, never lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import sqlalchemy as sa
from tests.fixtures.deliveries import claim_all, completed_request, insert_owed, members, outcome_of
from tests.fixtures.segments import insert_requests

from carpool_worker import database
from carpool_worker.models import tables
from carpool_worker.models.deliveries import REST
from carpool_worker.states import DeliveryState
from carpool_worker.store.deliveries import coverage, receivers
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.deliveries.coverage import Covering
from carpool_worker.store.deliveries.outcomes import (
    MADE,
    Claimed,
    ClaimOutcome,
    DeliveryOutcome,
    SendAttempt,
    in_progress,
)
from carpool_worker.store.deliveries.rows import FIRST, Turn

NOW = 1_800_000_000_000
LEASE = 30_000
CALLBACK = '{"kind":"webhook","url":"https://billing.example.com/claude"}'


def given_deliveries(
    engine: sa.Engine, count: int, callback: str = CALLBACK, client: str = "billing", first: int = 0
) -> list[str]:
    """Completed requests in one segment of answers for each 200."""
    ids = [f"{number:032x}" for number in range(first, first + count)]
    with database.write(engine) as connection:
        rows = [completed_request(id_, NOW, callback=callback, client=client) for id_ in ids]
        insert_requests(connection, rows, answers=dict.fromkeys(ids, b"{}"))
        insert_owed(connection, NOW)
    return ids


def given_singles(engine: sa.Engine, count: int) -> list[str]:
    """Completed requests, each in a segment of answers of its own."""
    return [id_ for number in range(count) for id_ in given_deliveries(engine, 1, first=number)]


def claim(engine: sa.Engine, limit: int = 1_000, now: int = NOW) -> list[Claimed]:
    with database.write(engine) as connection:
        return claim_all(connection, now, limit, LEASE)


def record(engine: sa.Engine, *outcomes: ClaimOutcome, now: int = NOW) -> None:
    with database.write(engine) as connection:
        deliveries.record(connection, outcomes, now)


def concluded(engine: sa.Engine, claimed: Claimed, *became: DeliveryOutcome) -> ClaimOutcome:
    """What becomes of a row: what is given, and all else is delivered."""
    others = {one.position: one for one in became}

    def outcome(id_: str, position: int) -> DeliveryOutcome:
        return others.get(position) or delivered(id_, position)

    with database.read(engine) as connection:
        return outcome_of(connection, claimed, outcome)


def rows(engine: sa.Engine, table: sa.Table) -> list[Any]:
    with database.read(engine) as connection:
        return list(connection.execute(sa.select(table).order_by(*table.primary_key)))


def made(engine: sa.Engine, ids: list[str]) -> dict[str, Covering]:
    with database.read(engine) as connection:
        return {one.request_id: one for one in coverage.of_requests(connection, ids)}


def delivered(id_: str, position: int, **fields: Any) -> DeliveryOutcome:
    return DeliveryOutcome.delivered(id_, position, SendAttempt(NOW, **fields))


def failed(id_: str, position: int, due_at: int = NOW) -> DeliveryOutcome:
    return DeliveryOutcome.snoozed(id_, position, SendAttempt(NOW, status=500), due_at, "answered 500")


def deferred(id_: str, position: int, due_at: int = NOW) -> DeliveryOutcome:
    return DeliveryOutcome.snoozed(id_, position, SendAttempt(NOW, counts=False), due_at, "wait")


def refused(id_: str, position: int, reason: str = "no") -> DeliveryOutcome:
    return DeliveryOutcome.given_up(id_, position, SendAttempt(NOW, counts=False), reason)


def test_a_segment_is_claimed_with_what_a_channel_needs(engine: sa.Engine) -> None:
    # Given
    ids = given_deliveries(engine, 3, '{"kind":"task","name":"billing.on_answer","queue":"billing"}')

    # When
    [claimed] = claim(engine)

    # Then
    assert claimed[1:] == (
        REST,
        None,
        "task",
        "billing.on_answer",
        "queue:billing",
        "billing",
        1,
        1,
        3,
        None,
        NOW,
    )
    with database.read(engine) as connection:
        assert members(connection, claimed) == list(enumerate(ids))


def test_two_couriers_at_once_never_get_the_same_delivery(engine: sa.Engine) -> None:
    # Given
    given_singles(engine, 120)

    # When
    with ThreadPoolExecutor(4) as couriers:
        chunks = list(couriers.map(lambda _: claim(engine, limit=10), range(12)))

    # Then
    taken = [claimed.answer_id for chunk in chunks for claimed in chunk]
    assert len(taken) == len(set(taken))
    assert len(taken) + len(claim(engine)) == 120


def test_receivers_and_clients_take_turns(engine: sa.Engine) -> None:
    # Given three receivers, one of which has answers of two clients
    first = 0
    for host, client in (("a", "x"), ("b", "x"), ("b", "y"), ("c", "x")):
        url = f'{{"kind":"webhook","url":"https://{host}.example.com/"}}'
        given_deliveries(engine, 3, url, client, first)
        given_deliveries(engine, 3, url, client, first + 3)
        first += 10

    def turns(after: Turn = FIRST, limit: int = 9, busy: Any = ([], [])) -> list[Turn]:
        with database.read(engine) as connection:
            return deliveries.turns(connection, after, limit, NOW, *busy)

    # When, Then
    all_ = [Turn(f"{host}.example.com:443", client) for host, client in ("ax", "bx", "by", "cx")]
    assert turns() == all_
    assert turns(limit=2) == all_[:2]
    assert turns(after=all_[1]) == all_[2:]
    assert turns(busy=(["b.example.com:443"], [])) == [all_[0], all_[3]]
    assert turns(busy=(["c.example.com:443"], all_[1:2])) == [all_[0], all_[2]]
    with database.write(engine) as connection:
        claimed = deliveries.claim(connection, all_, 1, NOW + LEASE)
    assert sorted((one.receiver, one.client) for one in claimed) == [tuple(turn) for turn in all_]


def test_a_parked_receiver_is_left_alone_until_its_time_is_over(engine: sa.Engine) -> None:
    # Given
    given_deliveries(engine, 2)
    with database.write(engine) as connection:
        receivers.park(connection, {"billing.example.com:443": (NOW + 5, "slow")})

    # When, Then: new deliveries wait, too
    given_deliveries(engine, 2, first=2)
    assert claim(engine) == []
    with database.read(engine) as connection:
        assert not deliveries.due(connection, NOW + 4)
        assert deliveries.next_due(connection, NOW + 4) == NOW + 5
        assert deliveries.due(connection, NOW + 5)
    assert len(claim(engine, now=NOW + 5)) == 2
    with database.write(engine) as connection:
        deliveries.stage(connection, NOW + 5)
    assert rows(engine, tables.parked_receivers) == []


def test_claim_takes_the_oldest_first_and_no_more_than_the_limit(engine: sa.Engine) -> None:
    # Given
    given_singles(engine, 3)
    oldest, *_ = rows(engine, tables.deliveries)
    with database.write(engine) as connection:
        same = tables.deliveries.c.answer_id == oldest.answer_id
        connection.execute(sa.update(tables.deliveries).where(same).values(due_at=NOW + 9))

    # When
    claimed = claim(engine, limit=2)

    # Then
    assert oldest.answer_id not in {one.answer_id for one in claimed}
    assert len(claimed) == 2


def test_a_segment_that_was_delivered_is_one_row_without_tries(engine: sa.Engine) -> None:
    # Given
    ids = given_deliveries(engine, 200)
    [claimed] = claim(engine)

    # When
    record(engine, concluded(engine, claimed), now=NOW + 7)

    # Then
    [row] = rows(engine, tables.deliveries)
    assert (row.state, row.pending, row.delivered, row.progress) == (DeliveryState.DELIVERED, 0, 200, None)
    assert rows(engine, tables.attempts) == []
    assert {(one.state, one.attempt, one.delivered_at) for one in made(engine, ids).values()} == {
        (DeliveryState.DELIVERED, 1, NOW + 7)
    }


def test_tries_that_failed_get_rows_of_their_own(engine: sa.Engine) -> None:
    # Given
    ids = given_deliveries(engine, 4)
    [claimed] = claim(engine)
    never = DeliveryOutcome.given_up(ids[2], 2, SendAttempt(NOW, status=410, detail="no"), "gone")

    # When
    record(engine, concluded(engine, claimed, failed(ids[1], 1, NOW + 5_000), never))

    # Then
    rest, second, third = rows(engine, tables.deliveries)
    assert (rest.state, rest.pending, rest.delivered, rest.progress) == ("delivered", 0, 2, "dood")
    assert (second.request_id, second.state, second.due_at) == (ids[1], "retryable", NOW + 5_000)
    assert (third.request_id, third.state, third.discarded_at) == (ids[2], "discarded", NOW)
    assert [one.state for one in made(engine, ids).values()] == [
        "delivered",
        "retryable",
        "discarded",
        "delivered",
    ]
    assert [(row.request_id, row.attempt, row.status) for row in rows(engine, tables.attempts)] == [
        (ids[1], 1, 500),
        (ids[2], 1, 410),
    ]


def test_a_row_of_its_own_is_tried_until_it_is_delivered(engine: sa.Engine) -> None:
    # Given
    [id_] = given_deliveries(engine, 1)
    [claimed] = claim(engine)
    record(engine, concluded(engine, claimed, failed(id_, 0)))
    with database.write(engine) as connection:
        deliveries.stage(connection, NOW)

    # When
    [again] = claim(engine)
    record(engine, concluded(engine, again, delivered(id_, 0, status=204)))

    # Then
    assert (again.attempt, again.position, again.request_id) == (2, 0, id_)
    assert made(engine, [id_])[id_][4:6] == (DeliveryState.DELIVERED, 2)
    assert [(row.attempt, row.status) for row in rows(engine, tables.attempts)] == [(1, 500), (2, 204)]


def test_progress_is_recorded_and_only_the_rest_is_claimed_again(engine: sa.Engine) -> None:
    # Given a courier that dies after it has recorded some of a segment
    ids = given_deliveries(engine, 4)
    [claimed] = claim(engine)
    letters = claimed.letters()
    letters[0] = MADE
    record(engine, in_progress(claimed, letters, [failed(ids[3], 3)]))

    # When
    with database.write(engine) as connection:
        assert deliveries.rescue(connection, NOW + LEASE) == 2
    [again] = [one for one in claim(engine, now=NOW + LEASE) if not one.is_own]

    # Then
    assert (again.positions(), again.pending, again.claim) == ([1, 2], 2, 2)
    states = [one.state for one in made(engine, ids).values()]
    assert states == ["delivered", "delivering", "delivering", "retryable"]
    record(engine, concluded(engine, again))
    assert rows(engine, tables.deliveries)[0].progress == "dddo"


def test_what_was_not_sent_stays_together_and_does_not_count_as_a_try(engine: sa.Engine) -> None:
    # Given
    ids = given_deliveries(engine, 3)
    [claimed] = claim(engine)

    # When
    waits = (deferred(ids[1], 1, NOW + 9), deferred(ids[2], 2, NOW + 8))
    record(engine, concluded(engine, claimed, *waits))

    # Then
    [row] = rows(engine, tables.deliveries)
    assert (row.state, row.due_at, row.attempt, row.last_error) == ("retryable", NOW + 8, 0, "wait")
    assert (row.pending, row.delivered, row.progress) == (2, 1, "d--")
    assert rows(engine, tables.attempts) == []


def test_what_is_given_back_is_available_at_once_and_keeps_its_place(engine: sa.Engine) -> None:
    # Given
    given_deliveries(engine, 3)
    [claimed] = claim(engine)

    # When
    back = partial(DeliveryOutcome.given_back, at=NOW, reason="slow")
    with database.read(engine) as connection:
        outcome = outcome_of(connection, claimed, back)
    record(engine, outcome, now=NOW + 1)

    # Then
    [row] = rows(engine, tables.deliveries)
    assert (row.state, row.due_at, row.pending, row.last_error) == ("available", NOW, 3, "slow")
    assert [one.claim for one in claim(engine)] == [2]


def test_what_is_refused_for_one_reason_stays_together_and_else_has_rows_of_its_own(
    engine: sa.Engine,
) -> None:
    # Given
    ids = given_deliveries(engine, 2)
    others = given_deliveries(engine, 2, first=2)
    one, two = claim(engine)

    # When
    same = concluded(engine, one, refused(ids[0], 0), refused(ids[1], 1))
    record(engine, same, concluded(engine, two, refused(others[0], 0), refused(others[1], 1, "never")))

    # Then
    together, emptied, *own = rows(engine, tables.deliveries)
    assert (together.state, together.pending, together.last_error) == ("discarded", 2, "no")
    assert (emptied.state, emptied.pending, emptied.delivered) == ("delivered", 0, 0)
    assert [(row.state, row.attempt, row.last_error) for row in own] == [
        ("discarded", 0, "no"),
        ("discarded", 0, "never"),
    ]


def test_a_courier_whose_lease_ended_changes_nothing_of_a_newer_claim(engine: sa.Engine) -> None:
    # Given
    ids = given_deliveries(engine, 2)
    [stale] = claim(engine)
    with database.write(engine) as connection:
        assert deliveries.rescue(connection, NOW + LEASE) == 2
    [newer] = claim(engine, now=NOW + LEASE)

    # When
    record(engine, concluded(engine, stale, failed(ids[0], 0)))

    # Then
    [row] = rows(engine, tables.deliveries)
    assert (row.state, row.pending) == (DeliveryState.DELIVERING, 2)
    record(engine, concluded(engine, newer))
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
    [id_] = given_deliveries(engine, 1)
    [claimed] = claim(engine)
    record(engine, concluded(engine, claimed, failed(id_, 0, NOW + 5_000)))

    # When
    with database.write(engine) as connection:
        early, none = deliveries.stage(connection, NOW + 4_999), deliveries.due(connection, NOW + 4_999)
        one, staged = deliveries.due(connection, NOW + 5_000), deliveries.stage(connection, NOW + 5_000)

    # Then
    assert (early, none, one, staged) == (0, False, True, 1)
    assert [again.attempt for again in claim(engine)] == [2]


def test_a_courier_that_dies_costs_no_try(engine: sa.Engine) -> None:
    # Given
    [id_] = given_deliveries(engine, 1)

    # When
    for crash in range(12):
        claim(engine, now=NOW + crash * LEASE)
        with database.write(engine) as connection:
            assert deliveries.rescue(connection, NOW + (crash + 1) * LEASE) == 1

    # Then
    [claimed] = claim(engine)
    assert (claimed.attempt, claimed.claim) == (1, 13)
    record(engine, concluded(engine, claimed, failed(id_, 0)))
    assert [row.attempt for row in rows(engine, tables.attempts)] == [1]
