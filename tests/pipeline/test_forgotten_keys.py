"""How long idempotency keys are kept: a forgotten one is a new request, and nothing of the old one clings to it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import Carpool, request
from tests.fixtures.queries import rows
from tests.fixtures.retention import DELIVER_ALL, OF_A_REQUEST, days_ago, given_delivery, given_segment, row
from tests.fixtures.segments import insert_answers

from carpool import Producer, Webhook
from carpool.contract import mint_id
from carpool.idempotency import CLAIMS, OLDER_CLAIMS
from carpool_worker.database import write
from carpool_worker.exceptions import SettingsInvalid
from carpool_worker.models import Cancellation, DeliveryAttempt, Tag
from carpool_worker.pipeline import pruner
from carpool_worker.settings import read_settings
from carpool_worker.states import DeliveryState

KEPT_DAYS = 60.0
KEY = mint_id("billing", "invoice-1")


def prune(engine: sa.Engine, keys_days: float | None = KEPT_DAYS) -> Counter[str]:
    return pruner.prune(engine, 7, 29, keys_days)


def keyed(name: str, ended: float | None, **columns: Any) -> dict[str, Any]:
    id_ = mint_id("billing", name)
    return row(0, ended, id=id_, idempotency_key=name, params_digest=b"d" * 16, **columns)


def given_all_about(engine: sa.Engine, request_id: str) -> None:
    """A dead letter, a try, a tag, and a cancel command that came too late."""
    given_delivery(engine, request_id, DeliveryState.DISCARDED)
    tried = {"request_id": request_id, "attempt": 1, "at": days_ago(1), "milliseconds": 1}
    with write(engine) as connection:
        connection.execute(sa.insert(DeliveryAttempt).values(**tried))
        connection.execute(sa.insert(Tag).values(client="billing", tag="t", request_id=request_id))
        late = {"request_id": request_id, "client": "billing", "requested_at": days_ago(1)}
        connection.execute(sa.insert(Cancellation).values(**late))


def stored(engine: sa.Engine, table: str = "requests") -> int:
    return int(rows(engine, f"SELECT count(*) FROM {table}")[0][0])


def test_a_key_is_forgotten_with_all_about_its_request(engine: sa.Engine) -> None:
    # Given
    [one] = given_segment(engine, 62, keyed("a", 61))
    given_all_about(engine, one)

    # When
    dropped = prune(engine)

    # Then
    assert dropped["requests"] == 1
    assert {table: stored(engine, table) for table in OF_A_REQUEST} == dict.fromkeys(OF_A_REQUEST, 0)


def test_without_the_setting_it_is_kept_forever(engine: sa.Engine) -> None:
    given_segment(engine, 9_000, keyed("a", 8_000))

    prune(engine, None)

    assert stored(engine) == 1


def test_requests_without_a_key_stay_in_the_ledger(engine: sa.Engine) -> None:
    # Given two requests of a segment, one of which has a key
    [one, _] = given_segment(engine, 62, row(1, 61), keyed("a", 61))

    # When
    prune(engine)

    # Then the segment is theirs alone
    assert [found.id for found in rows(engine, "SELECT id FROM requests")] == [one]
    [segment] = rows(engine, "SELECT ids, requests, keyed FROM segments")
    assert tuple(segment) == (one, 1, 0)
    assert prune(engine)["requests"] == 0


@pytest.mark.parametrize("other", [keyed("b", 59), keyed("b", None), row(2, 59), row(2, None)])
def test_it_is_kept_as_long_as_another_of_its_segment_is_too_young(
    engine: sa.Engine, other: dict[str, Any]
) -> None:
    given_segment(engine, 62, keyed("a", 61), other)

    prune(engine)

    assert stored(engine) == 2


def test_it_is_kept_as_long_as_an_answer_is(engine: sa.Engine) -> None:
    # Given a request whose answer is in a segment with one that is still to be delivered
    [one, other] = given_segment(engine, 62, keyed("a", 61), row(2, 61))
    with write(engine) as connection:
        insert_answers(connection, "billing", {one: b"{}", other: b"{}"}, at=days_ago(61))
    given_delivery(engine, other, DeliveryState.RETRYABLE)

    # When
    prune(engine)

    # Then
    assert stored(engine) == 2


def test_it_is_kept_as_long_as_its_own_delivery_is_due_though_its_answer_was_purged(
    engine: sa.Engine,
) -> None:
    [one] = given_segment(engine, 62, keyed("a", 61))
    given_delivery(engine, one, DeliveryState.AVAILABLE)
    with write(engine) as connection:
        connection.execute(sa.text("DELETE FROM answers"))

    prune(engine)

    assert stored(engine) == 1


def test_a_key_that_comes_again_is_run_and_called_back_again(carpool: Carpool, redis_url: str) -> None:
    # Given a request that was answered and called back, and then forgotten
    with Producer(redis_url, client="billing", allow_http=True) as producer:
        callback = Webhook("http://127.0.0.1:9/")
        [one] = [producer.enqueue(request("first"), callback=callback, idempotency_key="invoice-1")]
        carpool.until(lambda: carpool.ended(1))
        carpool.change(DELIVER_ALL)
        carpool.change("UPDATE requests SET finished_at = 1")
        carpool.change("UPDATE segments SET ends_after = 0, id = 1")
        carpool.change("UPDATE requests SET segment_id = 1, answer_id = 1")
        carpool.change("UPDATE params SET id = 1")
        carpool.change("UPDATE answers SET id = 1")
        carpool.change("UPDATE deliveries SET answer_id = 1")
        assert prune(carpool.engine)["requests"] == 1
        assert carpool.server.delete(CLAIMS, OLDER_CLAIMS) == 1  # Redis forgot the key long before

        # When
        again = producer.enqueue(request("second"), callback=callback, idempotency_key="invoice-1")
        carpool.until(lambda: carpool.ended(1))

    # Then
    assert again == one == KEY
    assert [found.state for found in rows(carpool.engine, "SELECT state FROM deliveries")] == ["available"]
    assert len(rows(carpool.engine, "SELECT id FROM batches WHERE state = 'completed'")) == 2


def test_it_can_not_be_forgotten_before_its_contents() -> None:
    assert read_settings(keys_retention_days=0).keys_retention_days == 0
    assert read_settings(keys_retention_days=29).keys_retention_days == 29
    for shorter in ({"keys_retention_days": 28}, {"keys_retention_days": 30, "params_retention_days": 31}):
        with pytest.raises(SettingsInvalid, match="a key goes with its contents or later"):
            read_settings(**shorter)
