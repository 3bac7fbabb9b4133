"""Retention: nothing is kept forever, nothing goes too early, and the ledger stays."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from threading import Thread
from typing import Any, cast

import msgspec
import pytest
import redis
import sqlalchemy as sa
from tests.fixtures.queries import rows
from tests.fixtures.retention import (
    days_ago,
    given_answers,
    given_delivery,
    given_request,
    given_segment,
    row,
)
from tests.fixtures.waiting import until

from carpool import RequestFailed
from carpool.answers import PRUNED, AnswerError
from carpool.contract import WAITS, Wait, encode_wait, to_json
from carpool.results import Result
from carpool_worker.database import now, read, write
from carpool_worker.models import Cancellation, DailyUsage, DeliveryAttempt
from carpool_worker.models.tables import requests, segments, unowned
from carpool_worker.pipeline import pruner
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.states import FINAL_DELIVERY_STATES, DeliveryState, RequestState
from carpool_worker.store import retention
from carpool_worker.store.deliveries import dead_letters
from carpool_worker.store.deliveries.dead_letters import DeliveryFilter
from carpool_worker.store.requests.answers import load_answers
from carpool_worker.store.requests.rows import UNBATCHED
from carpool_worker.units import DAY

PARAMS_DAYS, ANSWERS_DAYS = 7.0, 29.0
FINAL = (RequestState.COMPLETED, RequestState.DISCARDED, RequestState.CANCELED)


def prune(engine: sa.Engine, keys_days: float | None = None) -> Counter[str]:
    return pruner.prune(engine, PARAMS_DAYS, ANSWERS_DAYS, keys_days)


def kept(engine: sa.Engine, table: str) -> list[int]:
    """The numbers of the requests whose params, or answers, are kept."""
    with read(engine) as connection:
        place = requests.c.segment_id if table == "params" else requests.c.answer_id
        held = sa.select(requests.c.id).where(place.in_(sa.select(sa.table(table, sa.column("id")).c.id)))
        return sorted(int(one, 16) for one in connection.scalars(held))


def looks(engine: sa.Engine) -> list[int]:
    """How many requests each query about requests looks up, as the pruner runs now."""
    asked: list[int] = []

    def note(connection: sa.Connection, members: retention.Members) -> Any:
        asked.append(sum(map(len, members.values())))
        return ends(connection, members)

    ends = retention._ends
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(retention, "_ends", note)
        prune(engine)
    return [count for count in asked if count]


def test_params_go_after_a_week_and_answers_after_four(engine: sa.Engine) -> None:
    # Given requests that ended at different times
    for number, ended in enumerate([6.9, 7.1, 28.9, 29.1]):
        given_request(engine, number, ended)

    # When
    dropped = prune(engine)

    # Then
    assert (kept(engine, "params"), kept(engine, "answers")) == ([0], [0, 1, 2])
    assert dropped == {
        "params": 3,
        "answers": 1,
        "delivery_attempts": 0,
        "cancellations": 0,
        "unowned_batches": 0,
        "archived_batches": 0,
    }


def test_what_never_was_in_a_batch_goes_as_what_was(engine: sa.Engine) -> None:
    for number, ended in enumerate([6.9, 7.1, 29.1, None]):
        given_request(engine, number, ended, batch_id=UNBATCHED)

    prune(engine)

    assert (kept(engine, "params"), kept(engine, "answers")) == ([0, 3], [0, 1])


def test_the_params_of_a_segment_go_when_the_last_of_its_requests_ended_long_ago(engine: sa.Engine) -> None:
    # Given two segments, in one of which a request ended later than the others, as it was tried again
    given_segment(engine, 8, row(1, 7.9), row(2, 7.9))
    given_segment(engine, 8, row(3, 7.9), row(4, 6.9))

    # When
    prune(engine)

    # Then all of that segment is kept, until that one's retention is over
    assert kept(engine, "params") == [3, 4]
    pruner.prune(engine, 6.8, ANSWERS_DAYS)
    assert kept(engine, "params") == []


@pytest.mark.parametrize("state", [RequestState.BATCHED, RequestState.RETRYABLE])
def test_a_request_that_has_not_ended_keeps_its_segment_s_params_however_old_they_are(
    engine: sa.Engine, state: RequestState
) -> None:
    # Given
    given_segment(engine, 99, row(1, 98), row(2, None, state=state, retry_at=1))
    prune(engine)
    assert kept(engine, "params") == [1, 2]

    # When it ends
    with write(engine) as connection:
        ended = {"state": "completed", "retry_at": None, "finished_at": now()}
        connection.execute(sa.update(requests).where(requests.c.id == f"{2:032x}").values(ended))
    prune(engine)
    assert kept(engine, "params") == [1, 2]
    pruner.prune(engine, 1e-9, ANSWERS_DAYS)

    # Then
    assert kept(engine, "params") == []


def test_a_request_that_is_retried_keeps_the_params_that_were_nearly_due(engine: sa.Engine) -> None:
    # Given a segment that the pruner has seen ended, almost long enough ago
    given_segment(engine, 8, row(1, 7.9), row(2, 6.9, state=RequestState.DISCARDED, outcome="errored"))
    prune(engine)

    # When a request of it is retried, and the retention of the end that the pruner saw is over
    with write(engine) as connection:
        again = {"state": "retryable", "retry_at": 1, "finished_at": None, "outcome": None}
        connection.execute(sa.update(requests).where(requests.c.id == f"{2:032x}").values(again))
    pruner.prune(engine, 6.8, ANSWERS_DAYS)

    # Then
    assert kept(engine, "params") == [1, 2]


def test_a_segment_that_must_stay_is_not_looked_at_in_each_run(engine: sa.Engine) -> None:
    # Given segments whose retention is not over, though they are older than that
    given_segment(engine, 8, row(1, 6.9), row(2, 7.9))
    given_segment(engine, 99, row(3, None), row(4, 98))

    # When / Then
    assert looks(engine) == [4]
    assert looks(engine) == []


def test_an_answer_that_ended_with_others_goes_with_them(engine: sa.Engine) -> None:
    given_segment(engine, 31, row(1, None), row(2, None))
    given_answers(engine, days_ago(29.1), f"{1:032x}", f"{2:032x}")

    prune(engine)

    assert kept(engine, "answers") == []


@pytest.mark.parametrize("state", list(DeliveryState))
def test_an_answer_on_its_way_is_kept_until_its_delivery_ends(
    engine: sa.Engine, state: DeliveryState
) -> None:
    # Given two answers in a segment, one of which may be on its way
    ids = given_segment(engine, 40, row(1, 30), row(2, 30))
    given_answers(engine, days_ago(30), *ids)
    given_delivery(engine, ids[0], DeliveryState.DELIVERED)
    given_delivery(engine, ids[1], state)

    # When
    prune(engine)

    # Then
    assert kept(engine, "answers") == ([] if state in FINAL_DELIVERY_STATES else [1, 2])


def test_answers_that_must_stay_hold_up_no_others(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruner, "STEP_SEGMENTS", 2)
    for number in range(5):
        given_request(engine, number, 32)
        given_delivery(engine, f"{number:032x}", DeliveryState.RETRYABLE)
    given_request(engine, 9, 30)

    prune(engine)

    assert kept(engine, "answers") == [0, 1, 2, 3, 4]


def test_a_delivery_that_is_replayed_meanwhile_keeps_its_answer(engine: sa.Engine) -> None:
    # Given an answer whose delivery was given up
    given_delivery(engine, given_request(engine, 1, 30), DeliveryState.DISCARDED)
    with write(engine) as connection:
        connection.execute(sa.update(segments).values(callback="{}"))

    # When the pruner runs while an operator replays it
    pruning = Thread(target=prune, args=[engine])
    with write(engine) as connection:
        assert dead_letters.replay(connection, DeliveryFilter(), 1, now())[0] == 1
        pruning.start()
        if engine.dialect.name == "postgresql":
            waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            until(lambda: bool(rows(engine, waiting)))
    pruning.join()

    # Then
    assert kept(engine, "answers") == [1]


def test_the_ledger_stays_and_old_tries_and_cancellations_go(engine: sa.Engine) -> None:
    # Given
    request_id = given_request(engine, 1, 30)
    used = {"day": "2020-01-01", "client": "billing", "account": "", "gateway_key": "", "model": "m"}
    with write(engine) as connection:
        money = {"cost": Decimal(1), "list_price": Decimal(2)}
        connection.execute(sa.insert(DailyUsage).values(processing="batch", **used, **money))
        for at in (days_ago(30), days_ago(28)):
            tried = {"request_id": request_id, "attempt": 1, "at": at, "milliseconds": 1, "detail": "no"}
            connection.execute(sa.insert(DeliveryAttempt).values(**tried))
            connection.execute(
                sa.insert(Cancellation).values(request_id=f"{at:032x}", client="c", requested_at=at)
            )

    # When
    dropped = prune(engine)

    # Then
    ledger = ("requests", "segments", "usage", "delivery_attempts", "cancellations")
    assert [rows(engine, f"SELECT count(*) FROM {table}")[0][0] for table in ledger] == [1] * 5
    assert (dropped["delivery_attempts"], dropped["cancellations"]) == (1, 1)


def test_a_run_ends_in_time_and_the_next_one_continues(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more than a run has time for
    for number in range(5):
        given_request(engine, number, 8)
    monkeypatch.setattr(pruner, "STEP_SEGMENTS", 2)
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


def test_strangers_are_forgotten_after_a_month_and_orphans_are_kept(engine: sa.Engine) -> None:
    long_ago = now() - 30 * DAY
    strangers = [
        {"claude_id": name, "batch_id": owner, "found_at": at, "headers": "{}"}
        for name, owner, at in (
            ("msgbatch_old", None, long_ago),
            ("msgbatch_new", None, now()),
            ("msgbatch_orphan", "b" * 32, long_ago),
        )
    ]
    with write(engine) as connection:
        connection.execute(sa.insert(unowned), strangers)

    assert pruner.prune(engine, 7, 29)["unowned_batches"] == 1

    with read(engine) as connection:
        kept = set(connection.scalars(sa.select(unowned.c.claude_id)))
    assert kept == {"msgbatch_new", "msgbatch_orphan"}
