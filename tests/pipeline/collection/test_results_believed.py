"""Results are believed when they are results: no answer of another's, no page of a proxy and no gap ends a request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.clients import Edited
from tests.fixtures.queries import LEDGER, answer_bodies, request_states

from carpool import Producer, Webhook
from carpool_worker.claude import results as result_lines
from carpool_worker.pipeline.collection import collector
from carpool_worker.policies.retries import CollectPolicy
from carpool_worker.simulator import Fault, RemoteSimulator, Script

HOOK = Webhook("http://127.0.0.1:9/hook")
POLICY = CollectPolicy(max_attempts=3, retry_interval=60, settle_interval=120)
LATER = 121_000
"""Milliseconds."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_lines, "CHUNK_LINES", 4)


def given_an_ended_batch(carpool: Carpool, producer: Producer, requests: int = 10) -> list[str]:
    ids = producer.enqueue_many([request(f"{n}") for n in range(requests)], callback=HOOK)
    carpool.aggregate()
    carpool.submit()
    carpool.until_polled("ended")
    return sorted(ids)


def collect(carpool: Carpool, edit: Callable[[list[bytes]], Iterable[bytes]] | None = None) -> bool:
    carpool.forget_waiting()
    [row] = carpool.rows("SELECT id FROM batches ORDER BY id LIMIT 1")
    claude = Edited(edit) if edit else carpool.claude
    return collector.collect(carpool.engine, claude, row.id, POLICY, carpool.announce)


def time_passes(carpool: Carpool, milliseconds: int = LATER) -> None:
    carpool.change(f"UPDATE batches SET incomplete_at = incomplete_at - {milliseconds}")


def counts(carpool: Carpool) -> tuple[int, ...]:
    """How many have ended, are delivered to somebody, and are in the ledger."""
    return tuple(
        carpool.rows(f"SELECT {query}")[0][0]
        for query in (
            "count(*) FROM requests WHERE finished_at IS NOT NULL",
            "coalesce(sum(pending), 0) FROM deliveries",
            f"coalesce(sum(requests), 0) FROM {LEDGER}",
        )
    )


def batch(carpool: Carpool) -> Any:
    return carpool.rows("SELECT * FROM batches ORDER BY id LIMIT 1")[0]


def error_types(carpool: Carpool) -> list[str]:
    results = [json.loads(body) for body in answer_bodies(carpool.engine).values()]
    return [result["error"]["error"]["type"] for result in results if result["type"] == "errored"]


ERROR = {"type": "error", "error": {"type": "api_error", "message": "upstream\nis away"}}


@pytest.mark.parametrize("requests", [1, 10])
@pytest.mark.parametrize("times", [1, 3])
def test_a_page_of_a_proxy_costs_nobody_an_answer(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, requests: int, times: int
) -> None:
    given_an_ended_batch(carpool, producer, requests)
    simulator.arm(Fault(operation="results", kind="page", times=times))

    for _ in range(times):
        assert not collect(carpool)
        time_passes(carpool)
    assert (batch(carpool).state, batch(carpool).incomplete_at) == ("ended", None)
    assert "not a result" in batch(carpool).last_error

    assert collect(carpool)
    assert counts(carpool) == (requests,) * 3
    assert set(request_states(carpool.engine)) == {"completed"}


@pytest.mark.parametrize("form", ["array", "pretty", "bom", "blank_lines"])
def test_results_in_another_form_are_taken_at_once(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, form: Any
) -> None:
    given_an_ended_batch(carpool, producer)
    simulator.arm(Fault(operation="results", kind="rewritten", form=form))

    assert collect(carpool)

    assert counts(carpool) == (10,) * 3
    assert set(request_states(carpool.engine)) == {"completed"}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(ERROR, indent=1).encode().split(b"\n") * 10,
        [json.dumps(ERROR).encode()] * 12,
        [b""] * 12,
        [b" ", b"\t"] * 12,
        [b"<html>"] * 12,
        [b"null"] * 12,
        [],
    ],
    ids=["an error over lines", "errors", "empty lines", "blanks", "html", "nulls", "nothing"],
)
def test_however_often_a_body_without_results_is_read_the_answers_are_taken_when_they_come(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, body: list[bytes]
) -> None:
    given_an_ended_batch(carpool, producer)

    for _ in range(3):
        assert not collect(carpool, lambda _: body)
        time_passes(carpool)
    assert counts(carpool) == (0, 0, 0)

    assert collect(carpool)
    assert counts(carpool) == (10, 10, 10)


@pytest.mark.parametrize(
    "tail",
    [[b"<html>", b"</html>", b"x", b"y"], [json.dumps(ERROR).encode()] * 4, [b"", b"", b"", b""]],
    ids=["html", "errors", "empty lines"],
)
def test_what_came_before_an_error_in_the_middle_is_taken_and_the_rest_waits(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, tail: list[bytes]
) -> None:
    given_an_ended_batch(carpool, producer)

    for _ in range(3):
        assert not collect(carpool, lambda lines: [*lines[:7], *tail])
        time_passes(carpool)
    assert counts(carpool) == (7, 7, 7)

    assert collect(carpool)
    assert counts(carpool) == (10, 10, 10)


def without_the_first(lines: list[bytes]) -> list[bytes]:
    return [*lines[1:], lines[1]]


def broken_first(lines: list[bytes]) -> list[bytes]:
    return [lines[0].replace(b'"result"', b'"result'), *lines[1:]]


@pytest.mark.parametrize("edit", [without_the_first, broken_first])
def test_a_request_without_a_result_ends_when_a_second_later_read_agrees(
    carpool: Carpool,
    producer: Producer,
    simulator: RemoteSimulator,
    edit: Callable[[list[bytes]], list[bytes]],
) -> None:
    given_an_ended_batch(carpool, producer)

    # When the results lack one, Then it waits, also if they are read again at once
    assert not collect(carpool, edit)
    assert not collect(carpool, edit)
    assert counts(carpool) == (9, 9, 9)
    assert "read again to be sure" in batch(carpool).last_error

    # When it is missing two minutes later too, Then it ends with an error that says so
    time_passes(carpool)
    assert collect(carpool, edit)
    assert counts(carpool) == (10, 10, 9)
    assert error_types(carpool) == ["result_missing"]


def test_a_second_read_that_has_the_answer_wins(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_an_ended_batch(carpool, producer)
    assert not collect(carpool, without_the_first)
    time_passes(carpool)

    assert collect(carpool)

    assert counts(carpool) == (10, 10, 10)
    assert error_types(carpool) == []


def test_an_end_in_the_middle_that_looks_like_one_is_never_an_end(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_an_ended_batch(carpool, producer)
    simulator.arm(Fault(operation="results", kind="rewritten", form="cut_cleanly", times=3))

    for _ in range(3):
        assert not collect(carpool)
        time_passes(carpool)

    assert collect(carpool)
    assert counts(carpool) == (10, 10, 10)


def renamed(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b'"custom_id":"0', b'"custom_id":"f') for line in lines]


def test_results_that_name_none_of_ours_end_nothing(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a batch whose create was answered, so that it is ours
    given_an_ended_batch(carpool, producer, 3)

    # When its results name other requests, however often, Then its own wait: they may have been paid for
    for _ in range(3):
        assert not collect(carpool, renamed)
        time_passes(carpool)
    assert counts(carpool) == (0, 0, 0)

    assert collect(carpool)
    assert counts(carpool) == (3, 3, 3)
    assert simulator.ledger()["batches"] == 1


def test_an_adopted_batch_is_released_only_once_a_second_read_names_strangers_too(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_an_ended_batch(carpool, producer, 3)
    carpool.change("UPDATE batches SET in_doubt_at = 1")

    assert not collect(carpool, renamed)
    assert batch(carpool).state == "ended"
    time_passes(carpool)
    assert not collect(carpool, renamed)

    assert (batch(carpool).state, batch(carpool).claude_id) == ("submitting", None)
    assert batch(carpool).incomplete_at is None


def test_a_success_beats_an_error_wherever_both_stand(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given results in which each request also has an error, in another chunk, before and after its answer
    given_an_ended_batch(carpool, producer)
    simulator.arm(Fault(operation="results", kind="rewritten", form="twice"))

    assert collect(carpool)

    assert counts(carpool) == (10, 10, 10)
    assert carpool.rows("SELECT DISTINCT state, attempt FROM requests") == [("completed", 1)]


def test_failures_are_let_go_before_they_take_too_much_memory(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carpool_worker.pipeline.collection.held_failures.MOST_BYTES", 300)
    simulator.script(Script(contains="", outcome="errored", error_type="invalid_request_error"))
    given_an_ended_batch(carpool, producer)

    with pytest.raises(RuntimeError):
        collect(carpool, lambda lines: dying_after(lines, 8))

    assert counts(carpool)[0] >= 4
    assert collect(carpool)
    assert counts(carpool)[0] == 10


def dying_after(lines: list[bytes], count: int) -> Iterable[bytes]:
    yield from lines[:count]
    raise RuntimeError


def test_results_that_never_come_end_when_anthropic_no_longer_keeps_them(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_an_ended_batch(carpool, producer, 2)
    carpool.change(f"UPDATE batches SET ended_at = ended_at - {30 * 86_400_000}")

    assert collect(carpool, lambda _: [b"<html>"] * 5)

    assert error_types(carpool) == ["results_gone"] * 2
