"""The collector: resumable anywhere, nothing twice, nothing dropped, the money right to the picodollar."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from tests.fixtures.agents import MODEL, Carpool, request
from tests.fixtures.clients import Edited, Killed
from tests.fixtures.queries import LEDGER, answer_bodies, request_states

from carpool import Producer, Webhook
from carpool_worker.claude import results as result_lines
from carpool_worker.claude.client import Claude
from carpool_worker.pipeline.collection import collector
from carpool_worker.policies.retries import CollectPolicy
from carpool_worker.simulator import Fault, RemoteSimulator, Script, SimulatorOptions, running
from carpool_worker.units import DOLLAR

POLICY = CollectPolicy(max_attempts=3, retry_interval=60, settle_interval=0)
HOOK = Webhook("http://127.0.0.1:9/hook")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_lines, "CHUNK_LINES", 4)


def given_an_ended_batch(carpool: Carpool, producer: Producer, requests: int = 10) -> list[str]:
    ids = producer.enqueue_many([request(f"{n}") for n in range(requests)], callback=HOOK)
    for step in (carpool.aggregate, carpool.submit):
        step()
    carpool.until_polled("ended")
    return sorted(ids)


def collect(carpool: Carpool, claude: Claude | None = None, announce: Any = None) -> bool:
    carpool.forget_waiting()
    [row] = carpool.rows("SELECT id FROM batches ORDER BY id LIMIT 1")
    announce = announce or carpool.announce
    return collector.collect(carpool.engine, claude or carpool.claude, row.id, POLICY, announce)


def collect_edited(carpool: Carpool, edit: Callable[[list[bytes]], Iterable[bytes]]) -> bool:
    claude = Edited(edit)
    try:
        return collect(carpool, claude)
    finally:
        claude.close()


def counts(carpool: Carpool) -> tuple[int, ...]:
    return tuple(
        carpool.rows(f"SELECT {query}")[0][0]
        for query in (
            "count(*) FROM requests WHERE finished_at IS NOT NULL",
            "coalesce(sum(length(ids)), 0) / 16 FROM answers",
            "coalesce(sum(pending), 0) FROM deliveries",
            f"coalesce(sum(requests), 0) FROM {LEDGER}",
        )
    )


def state(carpool: Carpool) -> str:
    return str(carpool.rows("SELECT state FROM batches ORDER BY id LIMIT 1")[0].state)


def test_killed_between_chunks_it_continues_where_it_was(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_an_ended_batch(carpool, producer)

    for done in (4, 8, 10):
        with pytest.raises(Killed):
            collect(carpool, announce=dying_at(carpool, done))
        assert counts(carpool) == (done,) * 4
    assert state(carpool) == "ended"
    assert collect(carpool)

    assert counts(carpool) == (10, 10, 10, 10)
    assert state(carpool) == "completed"


def dying_at(carpool: Carpool, done: int) -> Callable[..., None]:
    """Die after the commit with which so many requests have ended."""

    def announce(*_: Any) -> None:
        if counts(carpool)[0] == done:
            raise Killed

    return announce


@pytest.mark.parametrize("kind", ["truncated", "error", "dropped"])
def test_results_that_stop_short_are_read_again_later(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, kind: Any
) -> None:
    given_an_ended_batch(carpool, producer)
    simulator.arm(Fault(operation="results", kind=kind, status=404))

    assert not collect(carpool)
    [batch] = carpool.rows("SELECT state, due_at, ended_at FROM batches")
    assert batch.state == "ended"
    assert batch.due_at > batch.ended_at

    assert collect(carpool)
    assert counts(carpool) == (10, 10, 10, 10)
    assert len(set(carpool.announced)) == len(carpool.announced) == 10


def test_missing_lines_are_waited_for_and_nothing_is_discarded(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_an_ended_batch(carpool, producer)

    assert not collect_edited(carpool, lambda lines: lines[:-1])

    assert counts(carpool) == (9, 9, 9, 9)
    assert collect(carpool)
    assert counts(carpool) == (10, 10, 10, 10)


@pytest.mark.parametrize(
    ("edit", "answered"),
    [
        pytest.param(lambda lines: [*lines, *lines[:3]], 10, id="lines that come twice"),
        pytest.param(lambda lines: [lines[0], *lines], 10, id="a line twice in one chunk"),
        pytest.param(lambda lines: [*lines[:3], stray(lines[3]), *lines[3:]], 10, id="a custom_id of nobody"),
        pytest.param(lambda lines: [b'{"custom_id":"SECRET{', *lines[1:]], 9, id="a line that is no JSON"),
    ],
)
def test_odd_lines_hurt_nobody_else(
    carpool: Carpool,
    producer: Producer,
    simulator: RemoteSimulator,
    caplog: pytest.LogCaptureFixture,
    edit: Callable[[list[bytes]], Iterable[bytes]],
    answered: int,
) -> None:
    given_an_ended_batch(carpool, producer)

    assert collect_edited(carpool, edit)

    assert counts(carpool) == (10, 10, 10, answered)
    [(completed,)] = carpool.rows("SELECT count(*) FROM requests WHERE state = 'completed'")
    assert completed == answered
    assert "SECRET" not in caplog.text


def stray(line: bytes) -> bytes:
    return json.dumps(json.loads(line) | {"custom_id": "f" * 32}).encode()


def half_succeeded(line: bytes) -> bytes:
    parsed = json.loads(line)
    return json.dumps(parsed | {"result": parsed["result"] | {"type": "half_succeeded"}}).encode()


def test_an_unknown_type_of_result_is_kept_and_never_run_again(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_an_ended_batch(carpool, producer)

    assert collect_edited(carpool, lambda lines: map(half_succeeded, lines))

    rows = carpool.rows("SELECT DISTINCT state, outcome FROM requests")
    assert rows == [("discarded", "half_succeeded")]
    assert counts(carpool) == (10, 10, 10, 0)
    carpool.go_round()
    assert simulator.ledger()["batches"] == 1


def test_answers_are_kept_byte_for_byte(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_an_ended_batch(carpool, producer)
    [batch] = carpool.rows("SELECT claude_id FROM batches")
    came = result_lines.parse(list(carpool.claude.results(batch.claude_id, {})))

    assert collect(carpool)

    assert answer_bodies(carpool.engine) == {id_: result.body for id_, result in came.items()}


def test_usage_and_cost_add_up_to_what_the_simulator_billed(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given two models, and requests that fail, expire and run again
    simulator.script(
        Script(contains="flaky", outcome="errored", error_type="overloaded_error", times=1),
        Script(contains="late", outcome="expired", times=1),
        Script(contains="wrong", outcome="errored", error_type="invalid_request_error"),
    )
    for model in (MODEL, "claude-sonnet-4-5"):
        producer.enqueue_many(
            [request(f"{word} {n}", model) for n in range(4) for word in ("fine", "flaky", "late", "wrong")]
        )

    carpool.until(lambda: carpool.ended(32))

    ledger = simulator.ledger()
    used = {row.model: row for row in carpool.rows(f"SELECT * FROM {LEDGER}")}
    assert sum(row.requests for row in used.values()) == ledger["billed"] == 24
    for model, billed in ledger["tokens_by_model"].items():
        assert (used[model].input_tokens, used[model].output_tokens) == (
            billed["input_tokens"],
            billed["output_tokens"],
        )
        assert Decimal(used[model].cost) / DOLLAR == priced(model, billed, in_batch=True)
        assert Decimal(used[model].list_price) / DOLLAR == priced(model, billed, in_batch=False)
    total = sum(row.cost for row in used.values())
    for table in ("requests", "batches"):
        assert carpool.rows(f"SELECT sum(cost) FROM {table}")[0][0] == total


def test_an_answer_without_a_known_price_costs_nobody_zero(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a model that the API knows and the price list does not
    producer.enqueue_many([request(f"{n}", "claude-opus-99") for n in range(5)])

    carpool.until(lambda: carpool.ended(5))

    assert carpool.rows("SELECT DISTINCT state, cost, list_price FROM batches") == [("completed", None, None)]
    assert carpool.rows("SELECT DISTINCT outcome, cost, list_price FROM requests") == [
        ("succeeded", None, None)
    ]
    assert carpool.rows(f"SELECT requests, unpriced, cost FROM {LEDGER}") == [(5, 5, 0)]


def priced(model: str, billed: dict[str, int], in_batch: bool) -> Decimal:
    written, read = billed["cache_creation_input_tokens"], billed["cache_read_input_tokens"]
    usage = Usage(
        input_tokens=billed["input_tokens"] + written + read,
        output_tokens=billed["output_tokens"],
        cache_write_tokens=written,
        cache_read_tokens=read,
    )
    return calc_price(
        usage,
        model,
        provider_id="anthropic",
        genai_request_timestamp=datetime.now(UTC),
        price_context={"processing": "batch"} if in_batch else None,
    ).total_price


def test_resuming_after_its_first_lines_went_into_another_batch_is_no_stranger(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given results of which the first chunk alone was taken, and its requests are in a new batch already
    simulator.script(Script(contains="", outcome="expired", times=1))
    given_an_ended_batch(carpool, producer)

    def die(*_: Any) -> None:
        raise Killed

    in_order = Edited(iter)
    with pytest.raises(Killed):
        collect(carpool, in_order, announce=die)
    carpool.stage()

    assert collect(carpool, in_order)
    in_order.close()
    assert state(carpool) == "completed"
    carpool.until(lambda: carpool.ended(10))
    assert simulator.ledger()["ran_twice"] == []


def test_results_of_our_own_post_that_name_none_of_ours_are_never_sent_again(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a batch whose create was answered, and results that name other requests
    given_an_ended_batch(carpool, producer, 3)
    renamed = Edited(lambda lines: [line.replace(b'"custom_id":"0', b'"custom_id":"f') for line in lines])

    # When they are collected, Then the requests wait for their own: they may be paid for, and are not run again
    assert not collect(carpool, renamed)
    renamed.close()
    assert state(carpool) == "ended"
    assert carpool.rows("SELECT DISTINCT state, outcome FROM requests") == [("batched", None)]
    assert simulator.ledger()["batches"] == 1


def test_results_that_were_archived_end_their_requests_with_a_clear_error_at_once(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a batch that ended, and was archived before anybody collected it
    given_an_ended_batch(carpool, producer, 2)
    [row] = carpool.rows("SELECT claude_id FROM batches")
    simulator.archive(row.claude_id)

    # When it is collected, Then it is over
    assert collect(carpool)
    assert state(carpool) == "completed"
    assert request_states(carpool.engine) == ["discarded"] * 2
    results = [json.loads(body) for body in answer_bodies(carpool.engine).values()]
    assert [result["error"]["error"]["type"] for result in results] == ["results_gone"] * 2
    assert len(carpool.announced) == 2


def test_results_that_are_not_shown_yet_are_waited_for(
    carpool: Carpool, producer: Producer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(SimulatorOptions(data=tmp_path / "slow", latency=3_600)) as slow:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", slow.url)
        carpool.claude = Claude()
        # Given a batch whose end is believed too early
        producer.enqueue(request("a"))
        carpool.aggregate()
        carpool.submit()
        carpool.change("UPDATE batches SET state = 'ended', ended_at = in_progress_at")

        # When it has no results, Then the collector comes back
        assert not collect(carpool)
        [row] = carpool.rows("SELECT state, last_error FROM batches")
        assert row.state == "ended"
        assert "has no available results" in row.last_error
        carpool.claude.close()
