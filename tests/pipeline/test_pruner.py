"""Retention: nothing is kept forever, nothing goes too early, and the ledger stays."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any, cast

import msgspec
import pytest
import redis
import sqlalchemy as sa

from carpool import RequestFailed
from carpool.contract import WAITS, Wait, encode_wait, to_json
from carpool.results import AnswerError, Result
from carpool_worker.database import now, read, write
from carpool_worker.models import (
    AnswerRow,
    Batch,
    Cancellation,
    DailyUsage,
    DeliveryAttempt,
    DeliveryRow,
    Params,
    Request,
)
from carpool_worker.pipeline import pruner
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.states import BatchState, DeliveryState, RequestState
from carpool_worker.store import retention
from carpool_worker.store.batches.filling import FRESH
from carpool_worker.store.requests.answers import PRUNED, load_answers
from carpool_worker.store.requests.rows import UNBATCHED
from carpool_worker.units import DAY

BATCH = "b" * 32
PARAMS_DAYS, ANSWERS_DAYS = 7.0, 29.0
FINAL = (RequestState.COMPLETED, RequestState.DISCARDED, RequestState.CANCELED)


def days_ago(days: float) -> int:
    return now() - int(days * DAY)


def given_batch(engine: sa.Engine, opened: float, batch_id: str = BATCH, **columns: Any) -> None:
    row = {"id": batch_id, "lane": batch_id, "model": "m", "headers": "{}", "opened_at": days_ago(opened)}
    finished = {"state": BatchState.COMPLETED, "finished_at": days_ago(opened)}
    with write(engine) as connection:
        connection.execute(sa.insert(Batch), FRESH | row | (columns or finished))


def given_request(engine: sa.Engine, number: int, ended: float | None, **columns: Any) -> str:
    """A request that ended so many days ago, with its params and, if it ended, its answer."""
    at = None if ended is None else days_ago(ended)
    row = {
        "id": f"{number:032x}",
        "client": "billing",
        "model": "m",
        "lane": "m",
        "batch_id": BATCH,
        "state": RequestState.BATCHED if at is None else RequestState.COMPLETED,
        "outcome": at and "succeeded",
        "headers": "{}",
        "params_bytes": 2,
        "enqueued_at": 1,
        "batched_at": 1,
        "finished_at": at,
        "input_tokens": 3,
        "cost": Decimal("0.5"),
    } | columns
    with write(engine) as connection:
        connection.execute(sa.insert(Request).values(attempt=1, **row))
        connection.execute(sa.insert(Params).values(request_id=row["id"], body=b"{}"))
        if at is not None:
            body = b'{"type":"succeeded","message":{}}'
            connection.execute(sa.insert(AnswerRow).values(request_id=row["id"], body=body))
    return str(row["id"])


def given_delivery(engine: sa.Engine, request_id: str, state: DeliveryState) -> None:
    final = {DeliveryState.DELIVERED: "delivered_at", DeliveryState.DISCARDED: "discarded_at"}
    row = {"request_id": request_id, "channel": "webhook", "target": "t", "state": state, "due_at": 1}
    with write(engine) as connection:
        ended = {final[state]: 1} if state in final else {}
        connection.execute(sa.insert(DeliveryRow).values(attempt=1, **row, **ended))


def prune(engine: sa.Engine) -> Counter[str]:
    return pruner.prune(engine, PARAMS_DAYS, ANSWERS_DAYS)


def kept(engine: sa.Engine, table: str) -> list[int]:
    with read(engine) as connection:
        return sorted(int(one, 16) for one in connection.scalars(sa.text(f"SELECT request_id FROM {table}")))


def is_recorded_as_pruned(engine: sa.Engine) -> tuple[bool, bool]:
    query = sa.text(f"SELECT params_pruned_at, answers_pruned_at FROM batches WHERE id = '{BATCH}'")
    with read(engine) as connection:
        row = connection.execute(query).one()
    return row[0] is not None, row[1] is not None


def test_params_go_after_a_week_and_answers_after_four(engine: sa.Engine) -> None:
    # Given a batch whose requests ended at different times
    given_batch(engine, opened=40)
    for number, ended in enumerate([6.9, 7.1, 28.9, 29.1]):
        given_request(engine, number, ended)

    # When
    dropped = prune(engine)

    # Then a request's own end decides
    assert (kept(engine, "params"), kept(engine, "answers")) == ([0], [0, 1, 2])
    assert dropped == {"params": 3, "answers": 1, "delivery_attempts": 0, "cancellations": 0}


def test_what_never_was_in_a_batch_goes_as_what_was(engine: sa.Engine) -> None:
    for number, ended in enumerate([6.9, 7.1, 29.1, None]):
        given_request(engine, number, ended, batch_id=UNBATCHED)

    prune(engine)

    assert (kept(engine, "params"), kept(engine, "answers")) == ([0, 3], [0, 1])


def test_what_was_dropped_once_is_not_looked_for_again(engine: sa.Engine) -> None:
    # Given
    given_batch(engine, opened=40)
    request_id = given_request(engine, 1, 8)

    # When its params are due, but not its answer
    prune(engine)

    # Then that is recorded, and once the answer is due too the batch is left alone forever
    assert is_recorded_as_pruned(engine) == (True, False)
    with write(engine) as connection:
        connection.execute(sa.update(Request).where(sa.column("id") == request_id).values(finished_at=1))
    prune(engine)
    assert is_recorded_as_pruned(engine) == (True, True)
    with read(engine) as connection:
        assert retention.unpruned(connection, retention.PARAMS, now()) == []
        assert retention.unpruned(connection, retention.ANSWERS, now()) == []


@pytest.mark.parametrize("state", [RequestState.BATCHED, RequestState.RETRYABLE])
def test_a_request_that_has_not_ended_keeps_its_params_however_old_its_batch_is(
    engine: sa.Engine, state: RequestState
) -> None:
    # Given a request that stayed behind in a batch which is long completed
    given_batch(engine, opened=99)
    given_request(engine, 1, None, state=state, retry_at=1)

    # When
    prune(engine)

    # Then it has its params, and the batch is looked at again
    assert kept(engine, "params") == [1]
    assert is_recorded_as_pruned(engine) == (False, False)


@pytest.mark.parametrize("state", [BatchState.OPEN, BatchState.SEALED, BatchState.SUBMITTING])
def test_a_request_canceled_in_a_batch_that_never_ends_is_not_kept_forever(
    engine: sa.Engine, state: BatchState
) -> None:
    # Given
    given_batch(engine, opened=99, state=state)
    given_request(engine, 1, 30, state=RequestState.CANCELED, outcome="canceled")
    given_request(engine, 2, None)

    # When
    prune(engine)

    # Then
    assert (kept(engine, "params"), kept(engine, "answers")) == ([2], [])
    assert is_recorded_as_pruned(engine) == (False, False)


@pytest.mark.parametrize("state", list(DeliveryState))
def test_an_answer_on_its_way_is_kept_until_its_delivery_ends(
    engine: sa.Engine, state: DeliveryState
) -> None:
    # Given
    given_batch(engine, opened=40)
    given_delivery(engine, given_request(engine, 1, 30), state)

    # When
    prune(engine)

    # Then
    ended = state in retention.FINAL_DELIVERIES
    assert kept(engine, "answers") == ([] if ended else [1])
    assert is_recorded_as_pruned(engine) == (True, ended)


def test_a_delivery_replayed_meanwhile_keeps_its_answer(engine: sa.Engine) -> None:
    # Given an answer that was found to be due
    given_batch(engine, opened=40)
    request_id = given_request(engine, 1, 30)

    # When its delivery starts again before it is dropped
    given_delivery(engine, request_id, DeliveryState.AVAILABLE)
    with write(engine) as connection:
        dropped = retention.prune(connection, retention.ANSWERS, [request_id])

    # Then
    assert (dropped, kept(engine, "answers")) == (0, [1])


def test_the_ledger_stays_and_old_tries_and_cancellations_go(engine: sa.Engine) -> None:
    # Given
    given_batch(engine, opened=40)
    request_id = given_request(engine, 1, 30)
    with write(engine) as connection:
        connection.execute(
            sa.insert(DailyUsage).values(
                day="2020-01-01", client="billing", model="m", cost=Decimal(1), list_price=Decimal(2)
            )
        )
        for at in (days_ago(30), days_ago(28)):
            row = {"request_id": request_id, "attempt": 1, "at": at, "milliseconds": 1, "detail": "no"}
            connection.execute(sa.insert(DeliveryAttempt).values(**row))
            connection.execute(
                sa.insert(Cancellation).values(request_id=f"{at:032x}", client="c", requested_at=at)
            )

    # When
    dropped = prune(engine)

    # Then
    counts = {}
    with read(engine) as connection:
        for table in ("requests", "batches", "usage", "delivery_attempts", "cancellations"):
            counts[table] = connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))
    assert counts == dict.fromkeys(counts, 1)
    assert (dropped["delivery_attempts"], dropped["cancellations"]) == (1, 1)


def test_a_run_ends_in_time_and_the_next_one_continues(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more than a run has time for
    given_batch(engine, opened=40)
    for number in range(5):
        given_request(engine, number, 8)
    monkeypatch.setattr(pruner, "STEP_ROWS", 2)
    clock = iter(range(1_000))
    monkeypatch.setattr(pruner, "monotonic", lambda: next(clock))
    monkeypatch.setattr(pruner, "RUN_SECONDS", 5)

    # When
    first = prune(engine)["params"]

    # Then it did some steps, and later runs the rest
    assert 0 < first < 5
    monkeypatch.setattr(pruner, "RUN_SECONDS", 900)
    assert prune(engine)["params"] == 5 - first
    assert kept(engine, "params") == []


@pytest.mark.parametrize("state", FINAL)
def test_a_pruned_answer_says_so_and_its_money_stays_true(engine: sa.Engine, state: RequestState) -> None:
    # Given
    given_batch(engine, opened=40)
    request_id = given_request(engine, 1, 30, state=state)

    # When
    prune(engine)

    # Then
    with read(engine) as connection:
        result = Result.from_json(to_json(load_answers(connection, [request_id])[request_id]))
    assert result.error is not None
    assert (result.error.type, result.message, result.text) == ("answer_pruned", None, "")
    assert (result.state, result.cost) == (state, Decimal("0.5"))
    with pytest.raises(RequestFailed, match="no longer kept"):
        result.raise_for_error()
    assert result.usage is not None
    assert result.usage.input_tokens == 3


def test_a_producer_that_waits_for_a_pruned_answer_gets_the_reason(engine: sa.Engine, redis_url: str) -> None:
    # Given
    given_batch(engine, opened=40)
    request_id = given_request(engine, 1, 30)
    prune(engine)

    # When
    reply_to = "carpool:reply:1"
    with redis.Redis.from_url(redis_url) as server:
        server.rpush(WAITS, encode_wait(Wait("billing", reply_to, [request_id])))
        reply.answer_waits(server, engine)
        pushed = server.lpop(reply_to)

    # Then
    assert Result.from_json(cast("bytes", pushed)).error == msgspec.json.decode(PRUNED, type=AnswerError)
