"""How long rows are kept: what is over goes with all about it, what is not stays, and no sum of money changes."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.queries import rows
from tests.fixtures.retention import OF_A_REQUEST, days_ago, given_delivery, given_segment, row
from tests.fixtures.segments import insert_answers

from carpool.contract import mint_id
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import SettingsInvalid
from carpool_worker.models import Batch, Cancellation, DeliveryAttempt, Tag, UnownedBatch
from carpool_worker.models.tables import batches, requests
from carpool_worker.pipeline import pruner
from carpool_worker.settings import read_settings
from carpool_worker.states import BatchState, DeliveryState
from carpool_worker.store import usage
from carpool_worker.store.batches import totals
from carpool_worker.store.batches.filling import FRESH
from carpool_worker.store.batches.rows import first_id_at
from carpool_worker.store.usage import UsageRow

KEPT_DAYS = 60.0


def prune(engine: sa.Engine, requests_days: float | None = KEPT_DAYS) -> Counter[str]:
    return pruner.prune(engine, 7, 29, None, requests_days)


def stored(engine: sa.Engine, table: str = "requests") -> int:
    return int(rows(engine, f"SELECT count(*) FROM {table}")[0][0])


def ids(engine: sa.Engine, table: sa.Table = requests) -> list[str]:
    with read(engine) as connection:
        return sorted(connection.scalars(sa.select(table.c.id)))


def keyed(name: str, ended: float | None) -> dict[str, Any]:
    return row(0, ended, id=mint_id("billing", name), idempotency_key=name, params_digest=b"d" * 16)


def given_batch(engine: sa.Engine, finished: float | None, number: int = 1, **columns: Any) -> str:
    """A batch that was opened and finished so many days ago, and is in the totals; or has not finished."""
    at = days_ago(90 if finished is None else finished)
    final = {} if finished is None else {"state": BatchState.COMPLETED, "finished_at": at, "tallied_at": at}
    batch_id = f"{first_id_at(at)[:24]}{number:08x}"
    head = {"id": batch_id, "lane": f"m{number}", "model": "m", "headers": "{}", "opened_at": at}
    with write(engine) as connection:
        one = FRESH | {"state": BatchState.OPEN} | head | final | columns
        connection.execute(sa.insert(Batch).values(one))
    return batch_id


def given_all_about(engine: sa.Engine, request_id: str) -> None:
    """A dead letter, a try, a tag, and a cancel command that came too late."""
    given_delivery(engine, request_id, DeliveryState.DISCARDED)
    tried = {"request_id": request_id, "attempt": 1, "at": days_ago(1), "milliseconds": 1}
    late = {"request_id": request_id, "client": "billing", "requested_at": days_ago(1)}
    with write(engine) as connection:
        connection.execute(sa.insert(DeliveryAttempt).values(tried))
        connection.execute(sa.insert(Tag).values(client="billing", tag="t", request_id=request_id))
        connection.execute(sa.insert(Cancellation).values(late))


def test_a_request_goes_with_all_about_it(engine: sa.Engine) -> None:
    # Given
    [one] = given_segment(engine, 62, row(1, 61, batch_id=given_batch(engine, 61)))
    given_all_about(engine, one)

    # When
    dropped = prune(engine)

    # Then
    assert (dropped["requests"], dropped["batches"]) == (1, 1)
    about = (*OF_A_REQUEST, "batches")
    assert {table: stored(engine, table) for table in about} == dict.fromkeys(about, 0)


def test_without_the_setting_all_is_kept_forever(engine: sa.Engine) -> None:
    given_segment(engine, 9_000, row(1, 8_000, batch_id=given_batch(engine, 8_000)))

    prune(engine, None)

    assert (stored(engine), stored(engine, "batches")) == (1, 1)


def test_what_has_a_key_stays_as_long_as_its_key_and_its_batch_with_it(engine: sa.Engine) -> None:
    # Given two requests of a segment and a batch, one of which has a key
    batch_id = given_batch(engine, 61)
    given_segment(engine, 62, row(1, 61, batch_id=batch_id), keyed("a", 61) | {"batch_id": batch_id})

    # When
    prune(engine)

    # Then the segment and the batch are that one's alone
    kept = mint_id("billing", "a")
    assert ids(engine) == [kept]
    [segment] = rows(engine, "SELECT ids, requests, keyed FROM segments")
    assert tuple(segment) == (kept, 1, 1)
    assert ids(engine, batches) == [batch_id]
    assert prune(engine)["requests"] == 0

    # When its key's time is over, too
    pruner.prune(engine, 7, 29, 30, KEPT_DAYS)

    # Then
    assert (ids(engine), ids(engine, batches)) == ([], [])


@pytest.mark.parametrize("other", [row(2, 59), row(2, None), keyed("b", 59), keyed("b", None)])
def test_it_stays_as_long_as_another_of_its_segment_is_too_young(
    engine: sa.Engine, other: dict[str, Any]
) -> None:
    given_segment(engine, 62, row(1, 61), other)

    prune(engine)

    assert stored(engine) == 2


@pytest.mark.parametrize(
    "state", [DeliveryState.AVAILABLE, DeliveryState.DELIVERING, DeliveryState.RETRYABLE]
)
def test_it_stays_as_long_as_its_answer_is_to_be_delivered(engine: sa.Engine, state: DeliveryState) -> None:
    # Given
    [one] = given_segment(engine, 62, row(1, 61, batch_id=given_batch(engine, 61)))
    given_delivery(engine, one, state)

    # When / Then
    prune(engine)
    assert (stored(engine), stored(engine, "batches"), stored(engine, "deliveries")) == (1, 1, 1)


def test_it_stays_as_long_as_an_answer_of_its_segment_is(engine: sa.Engine) -> None:
    # Given a request whose answer is in a segment with one that is still to be delivered
    [one] = given_segment(engine, 62, row(1, 61))
    [other] = given_segment(engine, 62, row(2, 61))
    with write(engine) as connection:
        insert_answers(connection, "billing", {one: b"{}", other: b"{}"}, at=days_ago(61))
    given_delivery(engine, other, DeliveryState.RETRYABLE)

    # When / Then
    prune(engine)
    assert stored(engine) == 2


def test_a_batch_stays_until_it_is_old_finished_in_the_totals_and_empty(engine: sa.Engine) -> None:
    # Given
    kept = [
        given_batch(engine, 59, 1),
        given_batch(engine, None, 2),
        given_batch(engine, 61, 3, tallied_at=None),
        given_batch(engine, 90, 4, finished_at=days_ago(59)),
    ]
    given_batch(engine, 61, 5)

    # When / Then
    assert prune(engine)["batches"] == 1
    assert ids(engine, batches) == sorted(kept)


def test_batches_that_must_stay_hold_up_no_others(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given more that stay than one run looks at, and one behind them that may go
    monkeypatch.setattr(pruner, "STEP_ROWS", 2)
    monkeypatch.setattr(pruner, "WALK_STEPS", 2)
    staying = [given_batch(engine, 80, number) for number in range(9)]
    for number, batch_id in enumerate(staying):
        given_segment(engine, 81, keyed(str(number), 80) | {"batch_id": batch_id})
    late, early = given_batch(engine, 70, 20), given_batch(engine, 85, 21)

    # When / Then: each run looks at the next ones, and after the last the first come again
    assert [prune(engine)["batches"] for _ in range(3)] == [1, 0, 1]
    early = given_batch(engine, 85, 22)
    assert sum(prune(engine)["batches"] for _ in range(3)) == 1
    assert {late, early}.isdisjoint(ids(engine, batches))


def test_segments_that_have_only_keys_left_are_not_looked_at_again(engine: sa.Engine) -> None:
    # Given
    for number in range(3):
        given_segment(engine, 62, keyed(str(number), 61), row(number, 61))
    prune(engine)

    # When
    asked: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    prune(engine)

    # Then no request of theirs is read
    assert [one for one in asked if "count(requests.finished_at)" in one] == []


def test_no_sum_of_money_changes(engine: sa.Engine) -> None:
    # Given
    used = UsageRow(
        "2020-01-01", "billing", "m", requests=2, input_tokens=6, cost=10**12, list_price=2 * 10**12
    )
    finished: dict[str, Any] = {
        "succeeded": 2,
        "submissions": 1,
        "cost": Decimal(1),
        "list_price": Decimal(2),
    }
    batch_id = given_batch(
        engine, 61, tallied_at=None, in_progress_at=days_ago(62), ended_at=days_ago(61), **finished
    )
    given_segment(engine, 62, row(1, 61, batch_id=batch_id), row(2, 61, batch_id=batch_id))
    orphan = {"claude_id": "msgbatch_orphan", "batch_id": batch_id, "found_at": days_ago(61), "run_twice": 1}
    with write(engine) as connection:
        usage.add(connection, [used])
        usage.roll_up(connection)
        connection.execute(sa.insert(UnownedBatch).values(headers="{}", request_count=2, **orphan))
    prune(engine)
    assert stored(engine, "batches") == 1
    before = sums(engine)

    # When the batch is in the totals
    with write(engine) as connection:
        assert totals.roll_up(connection, now()) == 1
    prune(engine)

    # Then
    assert (stored(engine), stored(engine, "batches"), stored(engine, "unowned_batches")) == (0, 0, 1)
    assert sums(engine) == before


def sums(engine: sa.Engine) -> tuple[Any, ...]:
    with read(engine) as connection:
        by_day = usage.totals(connection, ["client", "model", "day"])
        return by_day, totals.gone(connection), totals.stays(connection)


def test_rows_go_no_sooner_than_their_contents_and_what_anthropic_lists() -> None:
    for days in (0, 30, 400):
        assert read_settings(requests_retention_days=days).requests_retention_days == days
    for shorter in (
        {"requests_retention_days": 29},
        {"requests_retention_days": 40, "answers_retention_days": 41},
        {"requests_retention_days": 40, "params_retention_days": 41},
        {"requests_retention_days": 40, "audit_days": 41},
    ):
        with pytest.raises(SettingsInvalid, match="as long as contents are kept"):
            read_settings(**shorter)
