"""Requests that share their system prompt: where they stand in a batch, what is marked, and what it costs."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import SUBMIT_POLICY, Carpool, request
from tests.fixtures.queries import answer_bodies, batch_ids, params_bodies

from carpool import Producer
from carpool_worker.database import now, read
from carpool_worker.models import tables
from carpool_worker.pipeline.submission import cache_planner
from carpool_worker.pipeline.submission.body import spooled
from carpool_worker.policies.limits import BODY_FRAME_BYTES, Limits
from carpool_worker.prompt_cache import savings
from carpool_worker.prompt_cache.marking import MARK_BYTES
from carpool_worker.setting_values import API_MAX_BYTES
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.batches import shared_prompts
from carpool_worker.store.requests import bodies
from carpool_worker.views.batches import events

SONNET = "claude-sonnet-4-5"
CACHING = replace(SUBMIT_POLICY, cache_shared_prompts=True)
LONG = "You sort reviews by their tone. " * 200
"""6,400 bytes: 1,280 tokens for sure, which Sonnet caches, and 1,600 for the simulator."""

PRICES = {"input": 1.5, "output": 7.5, "cache_creation_input": 3.0, "cache_read_input": 0.15}
"""Dollars per million tokens in a batch: half of Sonnet's price list."""


def prompts(carpool: Carpool, batch_id: str) -> list[str]:
    with read(carpool.engine) as connection:
        query = sa.select(tables.requests.c.prefix).distinct().where(tables.requests.c.prefix.is_not(None))
        params = [body for _, body in bodies.of_batch(connection, batch_id, list(connection.scalars(query)))]
    return [body.partition(b'"system":"')[2][:1].decode() for body in params]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch, carpool: Carpool) -> Carpool:
    """Agents for whom every saving is worth the wait."""
    monkeypatch.setattr(savings, "LEAST_WORTH", 0)
    carpool.submit_policy = CACHING
    return carpool


def enqueued(carpool: Carpool, producer: Producer, count: int, **options: Any) -> None:
    producer.enqueue_many(
        [request(f"Review {n}", SONNET) | {"system": LONG} for n in range(count)], **options
    )
    carpool.aggregate()


def nonempty(carpool: Carpool) -> list[Any]:
    return carpool.rows("SELECT * FROM batches WHERE request_count > 0 ORDER BY request_count DESC, id")


def bill(simulator: RemoteSimulator, batch_ids: set[str]) -> float:
    entries = [entry for entry in simulator.ledger_entries() if entry["batch_id"] in batch_ids]
    return float(sum(entry[f"{kind}_tokens"] * price for entry in entries for kind, price in PRICES.items()))


def asked(system: str) -> dict[str, Any]:
    return request() | ({"system": system} if system else {})


def test_requests_that_share_their_system_prompt_stand_next_to_each_other(
    carpool: Carpool, producer: Producer
) -> None:
    # Given requests with three beginnings, alternating, in two chunks, and some with none
    carpool.limits = Limits(count=100, body_bytes=1_000_000, seconds=60)
    for _ in range(2):
        producer.enqueue_many([asked(system) for system in ("A", "B", "", "C") * 3])
        carpool.aggregate()

    # When the batch's body is written
    [batch] = carpool.rows("SELECT id FROM batches")
    found = prompts(carpool, batch.id)

    # Then each beginning comes once, with all of its requests
    assert len(found) == 24
    assert sum(one != before for one, before in zip(found, ["-", *found], strict=False)) == 4


def test_requests_that_share_their_system_prompt_go_into_the_same_batch(
    carpool: Carpool, producer: Producer
) -> None:
    # Given room for four requests in a batch
    carpool.limits = Limits(count=4, body_bytes=1_000_000, seconds=0)

    # When two beginnings alternate
    producer.enqueue_many([asked(system) for system in ("A", "B") * 4])
    carpool.aggregate()

    # Then each has a batch of its own
    ids = batch_ids(carpool.engine)
    assert sorted("".join(prompts(carpool, one)) for one in ids) == ["AAAA", "BBBB"]


def test_the_bill_is_smaller_with_the_cache_and_the_answers_are_the_same(
    eager: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    bills, answers, costs = [], [], []
    for policy in (SUBMIT_POLICY, CACHING):
        # Given twelve requests with the same system prompt
        eager.submit_policy = policy
        before = {row.id for row in eager.rows("SELECT id FROM requests")}
        known = {entry["batch_id"] for entry in simulator.ledger_entries()}
        enqueued(eager, producer, 12)

        # When they have ended
        eager.until(partial(eager.ended, len(before) + 12))

        # Then
        made = {entry["batch_id"] for entry in simulator.ledger_entries()} - known
        bills.append(bill(simulator, made))
        rows = eager.rows("SELECT id, cost FROM requests ORDER BY id")
        new = [row for row in rows if row.id not in before]
        costs.append(sum(row.cost for row in new) / 1e6)
        bodies = answer_bodies(eager.engine)
        answers.append([json.loads(bodies[row.id])["message"]["content"] for row in new])
    assert answers[0] == answers[1]
    assert bills[1] < bills[0] / 3  # one writes, eleven read
    assert costs == pytest.approx(bills)


def test_one_request_goes_ahead_and_the_others_wait_until_it_has_ended(
    eager: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a batch of five
    enqueued(eager, producer, 5)
    [whole] = nonempty(eager)

    # When it is to be posted
    eager.submit()

    # Then one of them is in a batch of its own, and the others wait for it
    rest, warm_up = nonempty(eager)
    assert (rest.id, rest.request_count, rest.warm_up_id) == (whole.id, 4, warm_up.id)
    assert (warm_up.request_count, warm_up.parent_id, warm_up.marked) == (1, whole.id, rest.marked)
    assert rest.body_bytes + warm_up.body_bytes == whole.body_bytes
    eager.submit()
    eager.submit()
    assert [row.state for row in nonempty(eager)] == ["sealed", "in_progress"]

    # When it has ended, they follow
    eager.until_polled("ended")
    eager.submit()
    assert [row.state for row in nonempty(eager)] == ["in_progress", "ended"]
    [newest, _] = eager.claude.list_newest({})
    assert newest.request_count == 4


def test_a_batch_that_follows_soon_reads_what_is_cached_and_waits_for_nothing(
    eager: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a batch of five that was warmed up, and has ended
    enqueued(eager, producer, 5)
    eager.until(lambda: eager.ended(5))

    # When two more are to be posted
    enqueued(eager, producer, 2)
    eager.until(lambda: eager.ended(7))

    # Then they go at once, and find their prefix in the cache
    following = eager.rows("SELECT * FROM batches ORDER BY id DESC")[0]
    assert (following.request_count, following.warm_up_id) == (2, None)
    used = eager.rows(f"SELECT * FROM requests WHERE batch_id = id_of('{following.id}')")
    assert [(one.cache_write_tokens or 0, one.cache_read_tokens > 0) for one in used] == [(0, True)] * 2
    with read(eager.engine) as connection:
        week = now() - cache_planner.LEARNS_FROM
        billed = shared_prompts.billed(connection, SONNET, week, 3, cache_planner.CACHED_FOR)
    assert {warm: bool(read) for warm, (read, _) in billed.items()} == {True: True}


def test_a_batchs_story_tells_of_its_marks_and_its_warm_up(eager: Carpool, producer: Producer) -> None:
    enqueued(eager, producer, 5)
    eager.until(lambda: eager.ended(5))

    [rest, warm_up] = nonempty(eager)
    with read(eager.engine) as connection:
        batch = batches.get(connection, rest.id)
    assert batch
    texts = [words for _, words in events(batch, [warm_up.id])]

    assert f"shared prompts marked for the cache: 1; batch {warm_up.id} goes ahead to warm it up" in texts
    assert texts[-1].startswith("completed: 4 succeeded")


def test_nobody_waits_for_a_warm_up_beyond_its_use_or_when_it_is_to_go_now(
    eager: Carpool, producer: Producer
) -> None:
    enqueued(eager, producer, 5)
    eager.submit()
    [rest, _] = nonempty(eager)

    def waits() -> bool:
        with read(eager.engine) as connection:
            return rest.id in batch_queue.warming(connection, now())

    assert waits()
    eager.change(f"UPDATE batches SET submit_by = {now() - 1}")
    assert not waits()
    eager.change("UPDATE batches SET submit_by = NULL")
    assert waits()
    eager.change(f"UPDATE batches SET warm_until = {now() - 1}")
    assert not waits()


def test_with_little_time_nothing_goes_ahead(eager: Carpool, producer: Producer) -> None:
    enqueued(eager, producer, 20, max_wait=1_800)

    eager.submit()

    [row] = nonempty(eager)
    assert (row.state, row.warm_up_id) == ("in_progress", None)
    assert len(json.loads(row.marked)) == 1


def test_a_plan_is_fixed_and_a_second_post_has_the_same_body(
    eager: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a batch whose post is refused after it was planned
    enqueued(eager, producer, 20, max_wait=1_800)
    simulator.arm(Fault(operation="create", kind="error", status=529))
    eager.submit()
    [row] = nonempty(eager)
    with spooled(eager.engine, row.id) as (body, _):
        first = body.read()
    assert first.count(b'"ttl":"1h"') == 20

    # When the setting is off, and what was billed says otherwise, and it is posted again
    eager.submit_policy = SUBMIT_POLICY
    eager.forget_waiting()
    eager.submit()

    # Then it is the same, and what is stored has no mark
    [again] = nonempty(eager)
    assert (again.state, again.marked) == ("in_progress", row.marked)
    with spooled(eager.engine, row.id) as (body, _):
        assert body.read() == first
    assert b"cache_control" not in b"".join(params_bodies(eager.engine).values())


def test_a_warm_up_that_is_canceled_keeps_nobody_waiting(eager: Carpool, producer: Producer) -> None:
    # Given a batch that waits for its warm-up
    enqueued(eager, producer, 5)
    eager.submit()
    [_, warm_up] = nonempty(eager)

    # When the request that went ahead is canceled
    [ahead] = eager.rows(f"SELECT id FROM requests WHERE batch_id = id_of('{warm_up.id}')")
    producer.cancel(ahead.id)

    # Then the others come to their end
    eager.until(lambda: eager.ended(5))
    assert eager.rows("SELECT state, count(*) FROM requests GROUP BY state ORDER BY state") == [
        ("canceled", 1),
        ("completed", 4),
    ]


def test_of_submitters_at_once_one_plans(eager: Carpool, producer: Producer) -> None:
    # Given a batch that two have read
    enqueued(eager, producer, 5)
    [row] = nonempty(eager)
    with read(eager.engine) as connection:
        batch = batches.get(connection, row.id)
    assert batch

    # When both plan, one does
    planned = [cache_planner.plan_cache(eager.engine, batch) for _ in range(2)]

    assert [bool(one) for one in planned] == [True, False]
    assert len(nonempty(eager)) == 2


def test_a_paused_lane_is_asked_by_the_warm_up(eager: Carpool, producer: Producer) -> None:
    # Given a paused lane whose probe is due
    enqueued(eager, producer, 5)
    [row] = nonempty(eager)
    eager.change(
        f"INSERT INTO lane_pauses (lane, reason, paused_at, probe_at, probes) VALUES ('{row.lane}', '401', 1, 1, 0)"
    )

    # When the batch makes a warm-up instead, the warm-up is the probe, at once
    eager.submit()
    eager.submit()

    assert [one.state for one in nonempty(eager)] == ["sealed", "in_progress"]
    assert eager.rows("SELECT * FROM lane_pauses") == []


def test_halves_keep_the_marks(eager: Carpool, producer: Producer, simulator: RemoteSimulator) -> None:
    enqueued(eager, producer, 20, max_wait=1_800)
    simulator.arm(Fault(operation="create", kind="error", status=413))

    eager.submit()

    states = eager.rows("SELECT state, marked FROM batches ORDER BY id")
    assert [row.state for row in states] == ["rejected", "sealed", "sealed"]
    assert len({row.marked for row in states}) == 1


def test_no_body_grows_beyond_what_anthropic_takes(eager: Carpool, producer: Producer) -> None:
    enqueued(eager, producer, 5)
    [row] = nonempty(eager)
    most = API_MAX_BYTES - BODY_FRAME_BYTES - 5 * MARK_BYTES

    for size, marked in ((most, 1), (most + 1, 0)):
        eager.change(f"UPDATE batches SET body_bytes = {size}, marked = NULL")
        with read(eager.engine) as connection:
            batch = batches.get(connection, row.id)
        assert batch
        with read(eager.engine) as connection:
            plan = cache_planner.fitting(cache_planner._decide(connection, batch), batch)
        assert (len(plan.marked), plan.warms_up) == (marked, bool(marked))


def test_a_lane_whose_bills_show_that_warm_ups_do_not_help_has_none(
    eager: Carpool, producer: Producer
) -> None:
    # Given a marked batch of the lane of which hardly any request found the prefix
    enqueued(eager, producer, 20)
    eager.until(lambda: eager.ended(20))
    eager.change("UPDATE requests SET cache_write_tokens = 60000, cache_read_tokens = 100")

    # When the next is planned, long after
    eager.change(f"UPDATE batches SET ended_at = ended_at - {cache_planner.CACHED_FOR + 1_000}")
    enqueued(eager, producer, 20)
    eager.submit()

    # Then it goes at once: no bill has shown yet that it finds little in the cache too
    newest = eager.rows("SELECT marked, warm_up_id FROM batches ORDER BY id DESC")[0]
    assert (len(json.loads(newest.marked)), newest.warm_up_id) == (1, None)


def test_without_the_setting_nothing_is_marked(carpool: Carpool, producer: Producer) -> None:
    enqueued(carpool, producer, 5)

    carpool.submit_batch(nonempty(carpool)[0].id)

    [row] = nonempty(carpool)
    assert (row.state, row.marked) == ("in_progress", None)
