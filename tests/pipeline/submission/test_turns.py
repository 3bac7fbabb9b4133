"""While there is not room for all, clients take turns, however their requests were pooled; nothing runs twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.agents import AT_ONCE, IN_AN_HOUR, MODEL, SUBMIT_POLICY, Carpool, request
from tests.fixtures.queries import load_batch

from carpool import Producer, Request
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, read
from carpool_worker.pipeline.submission import turns
from carpool_worker.pipeline.submission.admission import admitted
from carpool_worker.policies.admission import SubmitPolicy
from carpool_worker.simulator import RemoteSimulator, SimulatorOptions, running

FULL = 1_000


def policy(queue_limit: int, full: int = FULL, **weights: float) -> SubmitPolicy:
    limits = replace(AT_ONCE, count=full, weights=weights)
    return replace(SUBMIT_POLICY, queue_limit=queue_limit, full=limits)


@pytest.fixture
def api(carpool: Carpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteSimulator]:
    """An API with room for two batches."""
    with running(SimulatorOptions(data=tmp_path / "narrow", queue_limit=2 * FULL)) as narrow:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", narrow.url)
        carpool.claude.close()
        carpool.claude = Claude()
        carpool.submit_policy = policy(2 * FULL)
        yield narrow
        carpool.claude.close()


@pytest.fixture
def slow(carpool: Carpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An API whose batches don't end."""
    with running(SimulatorOptions(data=tmp_path / "slow", latency=3_600)) as slow:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", slow.url)
        carpool.claude = Claude()
        yield
        carpool.claude.close()


def enqueue(carpool: Carpool, redis_url: str, client: str, count: int, **options: Any) -> list[str]:
    with Producer(redis_url, client=client, allow_http=True) as producer:
        ids = producer.enqueue_many([Request(request(f"{client} {n}"), **options) for n in range(count)])
    carpool.aggregate()
    return list(ids)


def batches(carpool: Carpool, state: str) -> list[dict[str, int]]:
    """What each batch in a state has of each client, in the order of their posts."""
    found: dict[str, dict[str, int]] = {}
    for row in carpool.rows(
        "SELECT b.id, r.client, count(*) AS n FROM batches b JOIN requests r ON r.batch_id = b.id "
        f"WHERE b.state = '{state}' GROUP BY b.id, r.client ORDER BY max(b.submitting_at), b.id, r.client"
    ):
        found.setdefault(row.id, {})[row.client] = row.n
    return list(found.values())


def end_all(carpool: Carpool) -> None:
    carpool.change("UPDATE batches SET state = 'ended' WHERE state IN ('submitting', 'in_progress')")


def submit_until_full(carpool: Carpool, policy: SubmitPolicy) -> None:
    for _ in range(20):
        turns.gather_stuck(carpool.engine, policy)
        with read(carpool.engine) as connection:
            due = admitted(connection, now(), policy)
        if not due:
            return
        for batch_id in due:
            submitted = carpool.submit_batch(batch_id, **vars_of(policy))
            for other in submitted.replacements if submitted else ():
                carpool.submit_batch(other, **vars_of(policy))


def vars_of(policy: SubmitPolicy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in ("queue_limit", "full")}


@pytest.mark.parametrize("pooled", ["open", "sealed", "mixed"])
def test_while_a_client_has_20_000_waiting_another_s_ten_go_with_the_next_batch(
    carpool: Carpool, redis_url: str, api: RemoteSimulator, pooled: str
) -> None:
    # Given a big client, whose requests are at Anthropic as far as there is room, and a small one behind them
    carpool.limits = replace(AT_ONCE if pooled == "sealed" else IN_AN_HOUR, count=FULL, may_overlap=False)
    big = enqueue(
        carpool, redis_url, "big", 9 * FULL + FULL // 2 if pooled == "mixed" else 20_000 - FULL // 2
    )
    carpool.submit()
    small = enqueue(carpool, redis_url, "small", 10)
    if pooled == "mixed":
        big += enqueue(carpool, redis_url, "big", 10 * FULL)
    assert batches(carpool, "in_progress") == [{"big": FULL}] * 2

    # When one of them ends
    carpool.poll()
    carpool.collect()
    submit_until_full(carpool, carpool.submit_policy)

    # Then the small one's are all on their way, alone, and the big one's go on beside them
    assert {"small": 10} in batches(carpool, "in_progress")
    assert sum(one.get("big", 0) for one in batches(carpool, "in_progress")) >= FULL

    # And all of the small one's are answered before another of the big one's goes, each once
    carpool.until(
        lambda: len(carpool.rows("SELECT 1 FROM requests WHERE client = 'small' AND finished_at > 0")) == 10
    )
    ran = [entry["custom_id"] for entry in api.ledger_entries()]
    assert len(ran) == len(set(ran))
    assert set(small) <= set(ran)
    assert len(ran) <= 5 * FULL + 10
    assert carpool.rows("SELECT count(*) AS n FROM requests")[0].n == len(big) + len(small)
    assert carpool.rows("SELECT count(*) AS n FROM batches WHERE last_error LIKE '%429%'")[0].n == 0


@pytest.mark.usefixtures("slow")
def test_what_two_clients_have_mixed_goes_by_their_weights(carpool: Carpool, redis_url: str) -> None:
    # Given nine requests of one to each of the other, in all batches, and weights of one to three
    carpool.limits = replace(IN_AN_HOUR, count=100, may_overlap=False)
    for _ in range(20):
        enqueue(carpool, redis_url, "big", 90)
        enqueue(carpool, redis_url, "medium", 10)
    assert batches(carpool, "sealed") == [{"big": 90, "medium": 10}] * 20
    narrow = policy(100, 100, medium=3)

    # When there is room for one batch at a time
    sent = []
    for _ in range(6):
        submit_until_full(carpool, narrow)
        sent += batches(carpool, "in_progress")
        end_all(carpool)

    # Then the other has three times as much, while it has any, but for a batch
    totals = {client: sum(one.get(client, 0) for one in sent) for client in ("big", "medium")}
    assert totals["medium"] == 200
    assert totals["big"] <= 400
    assert carpool.rows("SELECT count(*) AS n FROM requests WHERE state = 'batched'")[0].n == 2_000
    assert_counts_agree(carpool)


@pytest.mark.usefixtures("slow")
def test_priorities_hold_within_a_client_and_not_across(carpool: Carpool, redis_url: str) -> None:
    carpool.limits = replace(AT_ONCE, count=100)
    enqueue(carpool, redis_url, "patient", 10, priority=-100)
    enqueue(carpool, redis_url, "hasty", 10, priority=99)
    enqueue(carpool, redis_url, "hasty", 10, priority=100)
    enqueue(carpool, redis_url, "hasty", 10, priority=98)

    with read(carpool.engine) as connection:
        due = admitted(connection, now(), policy(30, 100))
    order = [load_batch(carpool.engine, batch_id).priority for batch_id in due]

    assert order == [-100, 100, 99]


@pytest.mark.usefixtures("slow")
def test_one_that_is_alone_loses_nothing(carpool: Carpool, redis_url: str) -> None:
    carpool.limits = replace(IN_AN_HOUR, count=100, may_overlap=False)
    enqueue(carpool, redis_url, "big", 350)

    submit_until_full(carpool, policy(200, 100))

    assert batches(carpool, "in_progress") == [{"big": 100}] * 2
    assert batches(carpool, "sealed") == [{"big": 100}]
    assert batches(carpool, "open") == [{"big": 50}]


@pytest.mark.usefixtures("slow")
def test_requests_that_are_gathered_keep_their_place_in_counts_and_their_segments(
    carpool: Carpool, redis_url: str
) -> None:
    # Given a small client's requests in two sealed batches of a big one, and in the open one
    carpool.limits = replace(IN_AN_HOUR, count=100, may_overlap=False)
    for _ in range(4):
        enqueue(carpool, redis_url, "big", 90)
        enqueue(carpool, redis_url, "small", 5)
    submit_until_full(carpool, policy(95, 100))
    assert batches(carpool, "in_progress") == [{"big": 90, "small": 5}]

    # When there is room again
    end_all(carpool)
    submit_until_full(carpool, policy(100, 100))

    # Then all of them went, in batches without the big one, and no counter is wrong
    gathered = [one for one in batches(carpool, "in_progress") if "big" not in one]
    assert sum(one["small"] for one in gathered) == 15
    assert_counts_agree(carpool)
    segments = carpool.rows(
        "SELECT segment_id, count(DISTINCT batch_id) AS n FROM requests GROUP BY segment_id"
    )
    assert {row.n for row in segments} == {1}


@pytest.mark.usefixtures("slow")
def test_a_batch_that_all_requests_leave_is_dissolved_and_says_why(carpool: Carpool, redis_url: str) -> None:
    # Given one client in two small batches, beside another that has had far more than its share
    carpool.limits = replace(AT_ONCE, count=100)
    enqueue(carpool, redis_url, "big", 200)
    submit_until_full(carpool, policy(100, 100))
    carpool.limits = replace(IN_AN_HOUR, count=100, may_overlap=False)
    enqueue(carpool, redis_url, "big", 95)
    enqueue(carpool, redis_url, "small", 5)
    enqueue(carpool, redis_url, "small", 10)
    carpool.limits = AT_ONCE
    carpool.aggregate()
    assert batches(carpool, "sealed") == [{"big": 100}, {"big": 95, "small": 5}, {"small": 10}]
    end_all(carpool)

    # When its turn comes
    submit_until_full(carpool, policy(100, 100))

    # Then
    [emptied] = carpool.rows("SELECT last_error FROM batches WHERE state = 'completed'")
    assert emptied.last_error.startswith("its requests went on in batch ")
    assert {"small": 15} in batches(carpool, "in_progress")


def assert_counts_agree(carpool: Carpool) -> None:
    wrong = carpool.rows(
        "SELECT b.id FROM batches b LEFT JOIN requests r ON r.batch_id = b.id AND r.state = 'batched' "
        "WHERE b.state IN ('open', 'sealed', 'submitting', 'in_progress') "
        "GROUP BY b.id, b.request_count, b.body_bytes "
        "HAVING b.request_count <> count(r.id) OR b.body_bytes <> sum(r.params_bytes + 59)"
    )
    assert wrong == []
    assert MODEL
