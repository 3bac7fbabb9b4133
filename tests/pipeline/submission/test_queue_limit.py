"""Never more requests at Anthropic than the account's queue takes; the rest waits, the oldest first."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
from tests.fixtures.agents import AT_ONCE, SUBMIT_POLICY, Carpool, request
from tests.fixtures.queries import batch_ids, batch_states

from carpool import Producer
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, read
from carpool_worker.pipeline.submission import admission, submitter
from carpool_worker.policies.admission import SubmitPolicy
from carpool_worker.settings import read_settings
from carpool_worker.simulator import SimulatorOptions, running
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.store.batches import rows as batches

MODELS = ("claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5", "claude-haiku-4-5-20251001")


@pytest.fixture
def carpool(carpool: Carpool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Carpool]:
    """The agents, and an API whose batches don't end, and that would take more than it should be given."""
    with running(SimulatorOptions(data=tmp_path / "slow", latency=3_600)) as slow:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", slow.url)
        carpool.claude = Claude()
        yield carpool
        carpool.claude.close()


def given_sealed_batches(carpool: Carpool, producer: Producer, *counts: int) -> list[str]:
    """Batches of so many requests, each older than the next; returns their ids."""
    for model, count in zip(MODELS, counts, strict=False):
        producer.enqueue_many([request(f"{n}", model) for n in range(count)])
        carpool.aggregate()
    ids = batch_ids(carpool.engine)
    for age, batch_id in enumerate(ids):
        carpool.change(f"UPDATE batches SET opened_at = {1_000 + age} WHERE id = id_of('{batch_id}')")
    return ids


def test_a_younger_batch_never_overtakes_an_older_one_that_waits_for_room(
    carpool: Carpool, producer: Producer
) -> None:
    # Given a batch at Anthropic, one that doesn't fit beside it, and a younger one that would
    first, second, third = given_sealed_batches(carpool, producer, 6, 5, 2)
    assert carpool.submit_batch(first, queue_limit=10)

    # When both are tried, Then both wait, and the reason is recorded, once
    results = [carpool.submit_batch(batch_id, queue_limit=10) for batch_id in (third, second)]
    assert [one.error for one in results if one] == ["waits: 6 of 10 requests are queued at Anthropic"] * 2
    assert carpool.submit_batch(second, queue_limit=10) is None
    assert batch_states(carpool.engine) == ["in_progress", "sealed", "sealed"]

    # When there is room, Then they go in order of age
    carpool.change("UPDATE batches SET state = 'ended' WHERE state = 'in_progress'")
    with read(carpool.engine) as connection:
        assert admission.admitted(connection, now(), replace(SUBMIT_POLICY, queue_limit=10)) == [
            second,
            third,
        ]


def test_of_submitters_at_once_no_two_take_the_same_room(
    carpool: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given three batches of which one fits, and submitters that all believe they are admitted
    ids = given_sealed_batches(carpool, producer, 6, 6, 6)
    carpool.change("UPDATE batches SET opened_at = 1000")
    monkeypatch.setattr(submitter, "admit", believes_it_is_admitted)
    monkeypatch.setattr(submitter, "admitted", Together(3))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda batch_id: carpool.submit_batch(batch_id, queue_limit=10), ids))

    assert sorted(batch_states(carpool.engine)) == ["in_progress", "sealed", "sealed"]


def believes_it_is_admitted(engine: Any, batch_id: str, *_: Any) -> admission.Admission:
    with read(engine) as connection:
        batch = batches.get(connection, batch_id)
    assert batch
    return admission.Admission(batch)


class Together:
    """Makes all callers read the queue before any of them acts on it, as far as the database allows."""

    def __init__(self, parties: int) -> None:
        self._barrier = Barrier(parties, timeout=0.5)

    def __call__(self, connection: Any, at: int, policy: SubmitPolicy, *_: Any) -> list[str]:
        queued, ready = batch_queue.queued(connection)[None], batch_queue.ready(connection, at)
        with suppress(BrokenBarrierError):
            self._barrier.wait()
        # Any of them counts itself the oldest.
        return [batch.id for batch in ready if queued + batch.request_count <= policy.queue_limit]


def test_no_batch_is_filled_beyond_the_queue_limit() -> None:
    assert read_settings(flush_count=100, queue_limit=7).limits.count == 7


def test_a_batch_in_doubt_takes_room_too(carpool: Carpool, producer: Producer) -> None:
    first, second = given_sealed_batches(carpool, producer, 6, 6)
    carpool.change(f"UPDATE batches SET state = 'submitting', submitting_at = 1 WHERE id = id_of('{first}')")

    carpool.submit_batch(second, queue_limit=10)

    assert batch_states(carpool.engine) == ["submitting", "sealed"]


def test_a_batch_that_never_fits_is_split_until_it_does_and_each_part_keeps_its_age(
    carpool: Carpool, producer: Producer
) -> None:
    # Given a batch of an account whose limit was lowered, and a younger one
    given_sealed_batches(carpool, producer, 9, 2)

    # When the agents go round with a limit of 4
    for _ in range(6):
        with read(carpool.engine) as connection:
            due = admission.admitted(connection, now(), replace(SUBMIT_POLICY, queue_limit=4))
        for batch_id in due:
            carpool.submit_batch(batch_id, queue_limit=4)

    # Then two parts fit now; the rest waits behind them, before the younger one, and no request is lost
    rows = carpool.rows("SELECT state, request_count, opened_at FROM batches ORDER BY opened_at, id")
    assert sum(row.request_count for row in rows if row.state == "in_progress") <= 4
    assert "in_progress" in [row.state for row in rows]
    assert (rows[-1].state, rows[-1].request_count) == ("sealed", 2)
    assert sum(row.request_count for row in rows if row.state != "rejected") == 11
    assert carpool.rows("SELECT count(*) AS n FROM requests WHERE state = 'batched'")[0].n == 11


def test_whatever_comes_every_request_runs_and_never_are_more_queued_than_the_limit(
    carpool: Carpool, producer: Producer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(SimulatorOptions(data=tmp_path / "quick", queue_limit=10)) as quick:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", quick.url)
        carpool.claude.close()
        carpool.claude = Claude()
        carpool.limits = replace(AT_ONCE, count=4)
        producer.enqueue_many([request(f"{n}", MODELS[n % 2]) for n in range(30)])

        def all_ended_within_the_limit() -> bool:
            with read(carpool.engine) as connection:
                assert batch_queue.queued(connection)[None] <= 10
                due = admission.admitted(connection, now(), replace(SUBMIT_POLICY, queue_limit=10))
            for batch_id in due:
                carpool.submit_batch(batch_id, queue_limit=10)
            return carpool.ended(30)

        carpool.submit = lambda: None  # type: ignore[method-assign]
        carpool.until(all_ended_within_the_limit)

        ran = [entry["custom_id"] for entry in quick.ledger_entries()]
    assert len(ran) == len(set(ran)) == 30
    assert carpool.rows("SELECT count(*) AS n FROM batches WHERE last_error LIKE '%429%'")[0].n == 0
