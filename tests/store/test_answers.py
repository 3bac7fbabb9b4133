"""Answers put together from the tables: the bytes as they came, only what is final, only to its client."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from tests.fixtures.deliveries import completed_request
from tests.fixtures.segments import insert_request

from carpool.contract import to_json
from carpool.results import Result
from carpool_worker import database
from carpool_worker.models import Batch
from carpool_worker.states import BatchState, RequestState
from carpool_worker.store.requests.answers import load_answers

NOW = 1_800_000_000_123
ID = "a" * 32
MESSAGE = (
    b'{"id": "msg_1",  "content":[{"type":"text","text":"h\\u00e9\xc3\xa9"}], "usage":{"input_tokens":3}}'
)


def given_request(engine: sa.Engine, body: bytes, **columns: Any) -> None:
    row = completed_request(ID, NOW, **({"attempt": 2, "finished_at": NOW + 1_000} | columns))
    batch = {
        "id": "b" * 32,
        "lane": "x",
        "model": "x",
        "headers": "{}",
        "state": BatchState.ENDED,
        "opened_at": NOW,
    }
    with database.write(engine) as connection:
        connection.execute(sa.insert(Batch), batch | {"claude_id": "msgbatch_01"})
        insert_request(connection, row, answer=body)


def load(engine: sa.Engine, client: str | None = None) -> dict[str, Any]:
    with database.read(engine) as connection:
        return dict(load_answers(connection, [ID, "c" * 32], client))


def test_the_message_is_passed_on_byte_for_byte(engine: sa.Engine) -> None:
    # Given
    given_request(engine, b'{"type":"succeeded","message":' + MESSAGE + b"}")

    # When
    answer = load(engine)[ID]

    # Then
    assert bytes(answer.message) == MESSAGE
    assert MESSAGE in to_json(answer)


def test_an_answer_has_all_that_the_tables_know(engine: sa.Engine) -> None:
    # Given
    tokens = {"input_tokens": 3, "output_tokens": 4, "cache_write_tokens": 5, "cache_read_tokens": 6}
    dollars = {"cost": Decimal("0.000000075"), "list_price": Decimal("12")}
    given_request(
        engine, b'{"type":"succeeded","message":{}}', metadata='{"invoice": 42}', **tokens, **dollars
    )

    # When
    data = msgspec.json.decode(to_json(load(engine)[ID]))

    # Then
    assert data == {
        "id": ID,
        "client": "billing",
        "model": "claude-haiku-4-5",
        "state": "completed",
        "outcome": "succeeded",
        "message": {},
        "error": None,
        "usage": {
            "input_tokens": 3,
            "output_tokens": 4,
            "cache_creation_input_tokens": 5,
            "cache_read_input_tokens": 6,
        },
        "cost": "0.000000075",
        "list_price": "12",
        "metadata": {"invoice": 42},
        "attempts": 2,
        "batch_id": "msgbatch_01",
        "enqueued_at": "2027-01-15T08:00:00.123Z",
        "finished_at": "2027-01-15T08:00:01.123Z",
    }


def test_an_error_is_unwrapped(engine: sa.Engine) -> None:
    # Given
    inner = b'{"type":"invalid_request_error","message":"no"}'
    body = b'{"type":"errored","error":{"type":"error","error":' + inner + b',"request_id":"req_1"}}'
    given_request(engine, body, state=RequestState.DISCARDED, outcome="errored")

    # When
    answer = load(engine)[ID]

    # Then
    assert (answer.state, bytes(answer.error)) == ("discarded", inner)
    assert b'"message":null' in to_json(answer)


@pytest.mark.parametrize(
    "error",
    [b"null", b'"overloaded"', b'{"error":null}', b'{"error":"overloaded"}', b"[]", b"{}", b'""', b"7"],
)
def test_an_error_of_a_strange_shape_blocks_nothing(engine: sa.Engine, error: bytes) -> None:
    # Given
    body = b'{"type":"errored","error":' + error + b"}"
    given_request(engine, body, state=RequestState.DISCARDED, outcome="errored")

    # When
    result = Result.from_json(to_json(load(engine)[ID]))

    # Then
    assert result.outcome == "errored"
    assert result.error
    assert result.error.type
    assert result.error.message


def test_expired_requests_have_neither_message_nor_cost_but_an_error_that_says_so(engine: sa.Engine) -> None:
    # Given
    given_request(engine, b'{"type":"expired"}', state=RequestState.DISCARDED, outcome="expired")

    # When
    answer = load(engine)[ID]

    # Then
    data = msgspec.json.decode(to_json(answer))
    empty = [data[name] for name in ("message", "usage", "cost", "metadata")]
    assert (data["outcome"], data["error"]["type"], empty) == ("expired", "expired", [None] * 4)


def test_requests_that_are_not_final_have_no_answer_yet(engine: sa.Engine) -> None:
    # Given
    given_request(engine, b'{"type":"expired"}', state=RequestState.RETRYABLE, finished_at=None, retry_at=NOW)

    # When / Then
    assert load(engine) == {}


def test_another_client_sees_no_answer(engine: sa.Engine) -> None:
    # Given
    given_request(engine, b'{"type":"expired"}')

    # When / Then
    assert load(engine, client="thief") == {}
    assert list(load(engine, client="billing")) == [ID]
