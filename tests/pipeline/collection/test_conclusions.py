"""From result lines to what becomes of their requests, without a database."""

from __future__ import annotations

import json
import logging
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from carpool_worker.claude.results import CHUNK_LINES, ReadResult, in_chunks, parse
from carpool_worker.pipeline.collection.conclusions import Conclusions, conclude
from carpool_worker.policies.retries import CollectPolicy
from carpool_worker.states import COMPLETE, DISCARD
from carpool_worker.store.requests.rows import Pending
from carpool_worker.store.requests.segments import Terms
from carpool_worker.units import Milliseconds

MODEL = "claude-haiku-4-5"
DAY = date(2026, 11, 1)
POLICY = CollectPolicy(max_attempts=3, retry_interval=60.0)
NOW = Milliseconds(1_800_000_000_000)
USAGE = {"input_tokens": 10, "output_tokens": 5, "cache_creation": None, "service_tier": "batch"}


def pending(
    id_: str = "a", attempt: int = 1, model: str = MODEL, client: str = "billing", reserved: int | None = None
) -> Pending:
    terms = Terms(1, client, model, '{"kind":"webhook"}', None, None, None)
    return Pending(id_, attempt, 1, None, None, reserved, terms)


def succeeded(usage: Any = USAGE, model: str = MODEL) -> bytes:
    message = {"id": "msg_1", "model": model, "content": [{"text": "SECRET"}], "usage": usage}
    return json.dumps({"type": "succeeded", "message": message}).encode()


def errored(kind: str) -> bytes:
    error = {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req_1"}
    return json.dumps({"type": "errored", "error": error}).encode()


def concluded(body: bytes, *waiting: Pending) -> Conclusions:
    waiting = waiting or (pending(),)
    results = parse([line_of(one.id, body) for one in waiting])
    return conclude(results, [one for one in waiting if one.id in results], POLICY, day=DAY, at=NOW)


def line_of(custom_id: str, result: bytes) -> bytes:
    return b'{"custom_id":"%b","result":%b}' % (custom_id.encode(), result)


def bodies(results: dict[str, ReadResult]) -> dict[str, bytes]:
    return {id_: result.body for id_, result in results.items()}


def test_a_lines_result_is_kept_byte_for_byte() -> None:
    lines = [
        b'{"custom_id":"a","result": {"type" :"succeeded", "message":{},"x":1.0e2,"y":"\\u00e9\\/"} }',
        b'{"result":{"type":"expired"},"custom_id":"b"}',
    ]
    assert bodies(parse(lines)) == {
        "a": b'{"type" :"succeeded", "message":{},"x":1.0e2,"y":"\\u00e9\\/"}',
        "b": b'{"type":"expired"}',
    }


@pytest.mark.parametrize(
    "line",
    [
        b'{"custom_id":"a","result":{"type":"canceled"},"result":{"type":"expired"}}',
        b'{"custom_id":"a","result":{"type":"expired"},"custom_id":"a"}',
        b'{"custom_id":"a","result": {"type":"expired"}}',
        b'{"custom_id":"a","result":{"type":"expired"} }',
        b'{"custom_id":"a","result":{"type":"expired"}} ',
    ],
)
def test_nothing_but_the_result_is_cut_out_of_a_line_that_is_not_as_usual(line: bytes) -> None:
    assert bodies(parse([line])) == {"a": b'{"type":"expired"}'}


def test_a_line_that_is_none_is_left_out_and_nothing_of_it_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = [b'{"custom_id":"a","result":{"text":"SECRET"', b"SECRET", b'{"custom_id":"b"}', b"\xff"]

    last = b'{"custom_id":"c","result":{"type":"expired"}}'
    assert bodies(parse([*lines, last])) == {"c": b'{"type":"expired"}'}
    [record] = caplog.records
    assert f"'count': {len(lines)}" in record.getMessage()
    assert "SECRET" not in caplog.text


def test_a_success_is_completed_with_its_tokens_and_its_price() -> None:
    body = succeeded(USAGE | {"cache_read_input_tokens": 3, "cache_creation_input_tokens": 2})

    [ending] = concluded(body).endings

    assert (ending.transition, ending.outcome, ending.body) == (COMPLETE, "succeeded", body)
    assert (ending.input_tokens, ending.output_tokens) == (10, 5)
    assert (ending.cache_write_tokens, ending.cache_read_tokens) == (2, 3)
    assert ending.cost
    assert ending.list_price == 2 * ending.cost


def test_usage_is_summed_by_client_and_model() -> None:
    waiting = [pending("a"), pending("b"), pending("c", client="search"), pending("d", model="no-such-model")]
    results = parse([line_of(one.id, succeeded(model=one.terms.model)) for one in waiting])

    conclusions = conclude(results, waiting, POLICY, day=DAY, at=NOW)

    sums = {key: (one.requests, one.unpriced, one.input_tokens) for key, one in conclusions.used.items()}
    assert sums == {
        ("billing", MODEL, "", ""): (2, 0, 20),
        ("search", MODEL, "", ""): (1, 0, 10),
        ("billing", "no-such-model", "", ""): (1, 1, 10),
    }
    assert conclusions.cost == sum(Decimal(one.cost or 0) for one in conclusions.endings) / 10**12
    assert conclusions.list_price == 2 * conclusions.cost


def test_an_alias_is_priced_by_the_model_that_answered() -> None:
    [ending] = concluded(succeeded(model=MODEL), pending(model="an-alias")).endings

    assert ending.cost


def test_an_incurable_error_is_final_and_another_is_tried_again() -> None:
    assert [one.transition for one in concluded(errored("invalid_request_error")).endings] == [DISCARD]
    [(id_, outcome, when, error)] = concluded(errored("overloaded_error")).rescheduled
    assert (id_, outcome, error) == ("a", "errored", "overloaded_error")
    assert NOW + 48_000 <= when <= NOW + 72_000


def test_the_last_attempts_failure_is_final_and_keeps_its_error() -> None:
    body = errored("overloaded_error")

    [ending] = concluded(body, pending(attempt=3)).endings

    assert (ending.transition, ending.outcome, ending.body, ending.cost) == (DISCARD, "errored", body, None)


def test_an_outcome_of_tomorrow_is_final_as_it_may_have_been_billed() -> None:
    conclusions = concluded(b'{"type":"half_succeeded","message":null}')

    assert conclusions.rescheduled == []
    assert [(one.transition, one.outcome) for one in conclusions.endings] == [(DISCARD, "half_succeeded")]


@pytest.mark.parametrize("usage", [None, {"input_tokens": "many"}, [1]])
def test_a_success_whose_usage_cant_be_read_keeps_its_answer(
    usage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    body = succeeded(usage)

    with caplog.at_level(logging.ERROR):
        [ending] = concluded(body).endings

    assert (ending.transition, ending.body, ending.cost) == (COMPLETE, body, None)
    assert "SECRET" not in caplog.text
    assert len(caplog.records) == 1


def test_a_result_without_a_type_concludes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert concluded(b'{"message":"SECRET"}') == Conclusions()
    assert "SECRET" not in caplog.text


def test_lines_come_in_chunks_and_none_is_lost() -> None:
    lines = [b"%d" % n for n in range(CHUNK_LINES * 2 + 1)]

    chunks = list(in_chunks(lines))

    assert [len(chunk) for chunk in chunks] == [CHUNK_LINES, CHUNK_LINES, 1]
    assert [line for chunk in chunks for line in chunk] == lines


def test_long_lines_make_a_chunk_sooner() -> None:
    assert [len(chunk) for chunk in in_chunks([b"x" * 5_000_000] * 3)] == [2, 1]
