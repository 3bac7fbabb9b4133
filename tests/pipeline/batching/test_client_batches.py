"""Batches that clients make at the gateway, without HTTP: created whole, pooled, counted, and read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.fixtures.agents import AT_ONCE, MODEL, Carpool, request
from tests.fixtures.client_batches import (
    CLIENT,
    assert_counts_are_those_of_the_rows,
    counts,
    end,
    found,
    make,
    results,
)

from carpool import Producer
from carpool.segments import SEGMENT_REQUESTS
from carpool_worker.exceptions import KeyReused
from carpool_worker.policies.budgets import Budget
from carpool_worker.policies.client_batches import shown_id
from carpool_worker.simulator import RemoteSimulator
from carpool_worker.store.client_batches import rows

OTHER_MODEL = "claude-sonnet-4-5"


def test_a_batch_goes_the_whole_way(carpool: Carpool, simulator: RemoteSimulator) -> None:
    # Given requests to two models, and one that breaks a rule
    given = {
        "one": request("one"),
        "two": request("two", OTHER_MODEL),
        "three": request("three"),
        "broken": request("broken") | {"max_tokens": 0},
    }

    # When
    made = make(carpool, given).batch

    # Then it counts what has failed already
    assert counts(made) == {"processing": 3, "errored": 1}
    assert (made.ended_at, made.cancel_initiated_at, made.expires_at - made.created_at) == (
        None,
        None,
        86_400_000,
    )

    # When
    ended = end(carpool, made)

    # Then
    assert counts(ended) == {"succeeded": 3, "errored": 1}
    told = results(carpool, ended)
    assert told.keys() == given.keys()
    assert [told[name]["type"] for name in ("one", "two", "three")] == ["succeeded"] * 3
    assert told["two"]["message"]["model"] == OTHER_MODEL
    assert told["broken"]["error"]["error"] == {
        "type": "invalid_request_error",
        "message": "max_tokens: must be an integer of 1 or more",
    }
    [billed] = carpool.rows("SELECT sum(cost) AS cost, sum(list_price) AS list_price FROM requests")
    assert ended.cost == Decimal(int(billed.cost)) / 10**12 > 0
    assert ended.list_price == Decimal(int(billed.list_price)) / 10**12
    assert len(simulator.ledger_entries()) == 3
    assert_counts_are_those_of_the_rows(carpool.engine)


def test_valid_and_refused_requests_are_divided_into_segments(carpool: Carpool) -> None:
    # Given more than a segment holds, valid and refused
    given = {f"valid-{n}": request(str(n)) for n in range(450)}
    given |= {f"refused-{n}": request(str(n)) | {"max_tokens": 0} for n in range(250)}

    ended = end(carpool, make(carpool, given).batch)

    assert counts(ended) == {"succeeded": 450, "errored": 250}
    assert results(carpool, ended).keys() == given.keys()
    assert_counts_are_those_of_the_rows(carpool.engine)


def test_its_requests_pool_with_everybodys(unhurried: Carpool, producer: Producer) -> None:
    # Given
    producer.enqueue(request("theirs"))
    unhurried.aggregate()

    # When
    make(unhurried, ["ours", "ours-too"])

    # Then
    assert [row.request_count for row in unhurried.rows("SELECT request_count FROM batches")] == [3]


def test_each_result_has_the_bytes_that_the_api_sent(carpool: Carpool) -> None:
    ended = end(carpool, make(carpool, ["one"]).batch)

    [row] = carpool.rows("SELECT id, custom_id, client_batch, client FROM requests")
    assert (row.custom_id, row.client_batch, row.client) == ("one", shown_id(ended.id), CLIENT)
    assert results(carpool, ended)["one"]["message"]["type"] == "message"


@pytest.mark.parametrize("size", [7, 2_000])
def test_a_batch_of_many_requests_goes_the_whole_way(
    unhurried: Carpool, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("carpool_worker.pipeline.batching.spooled_creates.CHUNK_REQUESTS", size)
    names = [f"number-{number}" for number in range(500)]

    made = make(unhurried, {name: request(name) for name in names}).batch

    assert counts(made) == {"processing": 500}
    stored = unhurried.rows("SELECT custom_id FROM requests ORDER BY id")
    assert [row.custom_id for row in stored] == names
    segments = unhurried.rows("SELECT sum(requests) AS n, max(requests) AS most FROM segments")
    assert segments[0].n == 500
    assert segments[0].most <= SEGMENT_REQUESTS
    unhurried.limits = AT_ONCE
    assert counts(end(unhurried, made)) == {"succeeded": 500}
    assert results(unhurried, made).keys() == {*names}


def test_one_whose_requests_all_break_a_rule_ends_at_once(carpool: Carpool) -> None:
    broken: dict[str, Any] = {
        "no-model": {"max_tokens": 5, "messages": [{"role": "user", "content": "x"}]},
        "odd-model": {"model": 5},
        "streamed": request("x") | {"stream": True},
        "forbidden": request("x", "claude-opus-4-5"),
    }

    made = make(carpool, broken, allows=lambda model: model == MODEL).batch

    assert counts(made) == {"errored": 4}
    assert made.ended_at is not None
    errors = {name: one["error"]["error"] for name, one in results(carpool, made).items()}
    assert errors["streamed"] == {
        "type": "invalid_request_error",
        "message": "stream: must not be set: a batch can't do that",
    }
    assert errors["forbidden"]["type"] == "permission_error"
    assert carpool.rows("SELECT id FROM batches") == []
    assert_counts_are_those_of_the_rows(carpool.engine)


def test_requests_over_budget_wait_or_are_refused(carpool: Carpool) -> None:
    # Given a budget with room for none of them, which refuses what it never can afford
    carpool.budgets = {CLIENT: Budget(day=Decimal("0.000001"))}

    # When
    made = make(carpool, ["one", "two"]).batch

    # Then
    assert counts(made) == {"errored": 2}
    assert results(carpool, made)["one"]["error"]["error"]["type"] == "budget_exceeded"
    assert_counts_are_those_of_the_rows(carpool.engine)


def test_a_marked_retry_of_the_same_create_gets_the_same_batch(carpool: Carpool) -> None:
    first = make(carpool, ["one"])
    again = make(carpool, ["one"], is_retry=True)
    unmarked = make(carpool, ["one"])
    another = make(carpool, ["two"], is_retry=True)
    theirs = make(carpool, ["one"], is_retry=True, client="other")

    assert (first.is_new, again.is_new, again.batch.id) == (True, False, first.batch.id)
    assert len({one.batch.id for one in (first, unmarked, another, theirs)}) == 4


def test_a_retry_after_an_hour_is_a_new_create(carpool: Carpool) -> None:
    first = make(carpool, ["one"]).batch

    again = make(carpool, ["one"], is_retry=True, received_at=first.created_at + 3_600_001)

    assert again.batch.id != first.id


def test_a_create_that_its_retry_overtook_makes_no_second_batch(carpool: Carpool) -> None:
    # Given a create that was received, and whose client gave up waiting and tried again
    received_at = make(carpool, ["other"]).batch.created_at
    retried = make(carpool, ["one"], is_retry=True)

    # When the first one goes on
    late = make(carpool, ["one"], received_at=received_at)

    # Then
    assert late.batch.id == retried.batch.id
    assert not late.is_new


def test_an_idempotency_key_names_one_batch(carpool: Carpool) -> None:
    first = make(carpool, ["one"], idempotency_key="a")

    assert make(carpool, ["one"], idempotency_key="a").batch.id == first.batch.id
    assert make(carpool, ["one"], idempotency_key="b").batch.id != first.batch.id
    assert make(carpool, ["one"], idempotency_key="a", client="other").batch.id != first.batch.id
    with pytest.raises(KeyReused):
        make(carpool, ["two"], idempotency_key="a")


def test_what_breaks_off_a_create_leaves_nothing(carpool: Carpool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(rows, "set_segments", fail)
    with pytest.raises(OSError, match="no space"):
        make(carpool, ["one", "two"])

    for table in ("client_batches", "requests", "segments", "params", "batches"):
        assert carpool.rows(f"SELECT count(*) AS n FROM {table}")[0].n == 0
    monkeypatch.undo()
    assert counts(found(carpool, make(carpool, ["one", "two"]).batch)) == {"processing": 2}
